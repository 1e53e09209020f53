"""Diagnosis: the checks, what each has found, how bad that is, and what repairs it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from outbox.settings import Settings


class Severity(StrEnum):
    """How bad a finding is. What could not be asked is a warning, never ok."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class SeverityPolicy(Enum):
    """How bad it is where a check is not as expected; the value is what the documentation says."""

    MILD = "warning"
    GRAVE = "warning, in production a failure"
    FATAL = "failure"

    def severity(self, settings: Settings) -> Severity:
        """Return how bad it is in the profile of these settings."""
        if self is SeverityPolicy.MILD:
            return Severity.WARNING
        if self is SeverityPolicy.GRAVE and settings.profile != "production":
            return Severity.WARNING
        return Severity.FAILURE


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found. `subject` is a topic, a pid or a gid; empty where there is only one."""

    check: "Check"
    severity: Severity
    found: str
    subject: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
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
    """One check of doctor. Its name is stable: monitors and runbooks may rely on it.

    `expected` is what is right, and why; `repair` is the command or the setting that makes it so.
    """

    name: str
    policy: SeverityPolicy
    expected: str
    repair: str

    def judge(
        self, settings: Settings, found: str, *, fine: bool, subject: str = ""
    ) -> CheckResult:
        """Return ok where it is fine; otherwise what the check's policy says for this profile."""
        severity = Severity.OK if fine else self.policy.severity(settings)
        return CheckResult(self, severity, found, subject)

    def ok(self, found: str) -> CheckResult:
        return CheckResult(self, Severity.OK, found)

    def warning(self, found: str, subject: str = "") -> CheckResult:
        """Return a warning whatever the policy: it could not be asked, or is only half wrong."""
        return CheckResult(self, Severity.WARNING, found, subject)

    def failure(self, found: str) -> CheckResult:
        return CheckResult(self, Severity.FAILURE, found)


def judge_each(
    check: Check, settings: Settings, found: Iterable[tuple[str, str]], otherwise: str
) -> list[CheckResult]:
    """Return a finding for each (subject, words) that is not as expected.

    Where there is none, return one that is ok and says `otherwise`.
    """
    findings = [
        check.judge(settings, words, fine=False, subject=subject) for subject, words in found
    ]
    return findings or [check.ok(otherwise)]


def report_unanswered(checks: Iterable[Check], why: str, subject: str = "") -> list[CheckResult]:
    """Return a warning for each of these checks, which could not be asked."""
    return [check.warning(f"not answered: {why}", subject) for check in checks]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings of one run of doctor, in the order of the checks."""

    profile: str
    findings: Sequence[CheckResult]

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def failed(self) -> bool:
        return self.count(Severity.FAILURE) > 0

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {
            "profile": self.profile,
            **{severity.value: self.count(severity) for severity in Severity},
            "findings": [finding.plain() for finding in self.findings],
        }
