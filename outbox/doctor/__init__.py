"""Doctor: asks PostgreSQL and Kafka whether they keep what the outbox promises.

Start with `examination`, which asks all questions; each other module has the checks of one subject.
A reading is one look at a part, and a `judge` function turns it into findings without any I/O.
Doctor writes nothing, and asks nothing that makes a broker create a topic.

Weaknesses: it sees one moment, with the rights of one role, from one machine. It cannot see what a
disk does with a flush, what stands between brokers, or whether a backup can be restored.
"""

from outbox.doctor.diagnosis import Check, CheckResult, Diagnosis, Severity, SeverityPolicy
from outbox.doctor.examination import CHECKS, diagnose

__all__ = ["CHECKS", "Check", "CheckResult", "Diagnosis", "Severity", "SeverityPolicy", "diagnose"]
