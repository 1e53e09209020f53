"""Diagnosis: what was looked at, what was found there, and what repairs it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from outbox.settings import Settings


class Severity(StrEnum):
    """`ok` was asked and is right. What could not be asked is a warning, never ok."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class SeverityPolicy(Enum):
    """How bad it is where a check is not as expected; the value is the word for it."""

    MILD = "warning"
    GRAVE = "warning, in production a failure"
    FATAL = "failure"

    def severity(self, settings: Settings) -> Severity:
        if self is SeverityPolicy.MILD:
            return Severity.WARNING
        if self is SeverityPolicy.GRAVE and settings.profile != "production":
            return Severity.WARNING
        return Severity.FAILURE


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`subject` is what it was found at (a topic, a pid, a gid); empty where there is one only."""

    check: "Check"
    severity: Severity
    found: str
    subject: str = ""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "check": self.check.name,
            "severity": self.severity,
            "subject": self.subject,
            "found": self.found,
            "expected": self.check.expected,
            "repair": self.check.repair,
        }


@dataclass(frozen=True, slots=True)
class Check:
    """A question that doctor asks. Its name is stable: monitors and runbooks may rely on it.

    `expected` is what is right, and why; `repair` is the command or the setting that makes it so.
    """

    name: str
    policy: SeverityPolicy
    expected: str
    repair: str

    def judged(
        self, settings: Settings, found: str, *, fine: bool, subject: str = ""
    ) -> CheckResult:
        """Ok where it is fine; otherwise as bad as its gravity in this profile says."""
        severity = Severity.OK if fine else self.policy.severity(settings)
        return CheckResult(self, severity, found, subject)

    def ok(self, found: str) -> CheckResult:
        return CheckResult(self, Severity.OK, found)

    def warning(self, found: str, subject: str = "") -> CheckResult:
        """A warning whatever the gravity: it could not be asked, or is only half wrong."""
        return CheckResult(self, Severity.WARNING, found, subject)

    def failure(self, found: str) -> CheckResult:
        return CheckResult(self, Severity.FAILURE, found)


def judge_each(
    check: Check, settings: Settings, found: Iterable[tuple[str, str]], otherwise: str
) -> list[CheckResult]:
    """A finding for each subject that is not as expected; one that is ok where there is none."""
    findings = [
        check.judged(settings, words, fine=False, subject=subject) for subject, words in found
    ]
    return findings or [check.ok(otherwise)]


def report_unanswered(checks: Iterable[Check], why: str, subject: str = "") -> list[CheckResult]:
    """None of these could be asked."""
    return [check.warning(f"not answered: {why}", subject) for check in checks]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings of one look, in the order of the checks."""

    profile: str
    findings: Sequence[CheckResult]

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def failed(self) -> bool:
        return self.count(Severity.FAILURE) > 0

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "profile": self.profile,
            **{severity.value: self.count(severity) for severity in Severity},
            "findings": [finding.plain() for finding in self.findings],
        }
