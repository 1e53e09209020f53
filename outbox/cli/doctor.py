"""`python -m outbox doctor`."""

import typer

from outbox.cli.console import Json
from outbox.doctor import CheckResult, Diagnosis, Severity, diagnose
from outbox.escape import escape
from outbox.runtime.lifecycle import answer
from outbox.runtime.output import print_table, say, say_json
from outbox.settings import Settings


def doctor(json: Json = False) -> None:
    """Ask PostgreSQL and Kafka whether they keep what the outbox promises; exit code 1 if not.

    Warnings do not count. What is a warning in development may be a failure in production, see
    AFTERCOMMIT_PROFILE and docs/doctor.md.
    """
    settings = Settings()
    diagnosis = answer(settings, diagnose(settings))
    if json:
        say_json(diagnosis.plain())
    else:
        _print_diagnosis(diagnosis)
    raise typer.Exit(1 if diagnosis.failed else 0)


def _print_diagnosis(diagnosis: Diagnosis) -> None:
    print_table(("", "check", "found"), [_render_row(finding) for finding in diagnosis.findings])
    for finding in diagnosis.findings:
        if finding.severity is not Severity.OK:
            say(*_describe_repair(finding))
    counts = ", ".join(f"{diagnosis.count(severity)} {severity}" for severity in Severity)
    say(f"{counts} (profile {diagnosis.profile})")


def _render_row(finding: CheckResult) -> tuple[str, str, str]:
    return finding.severity, finding.check.name, _describe(finding)


def _describe_repair(finding: CheckResult) -> tuple[str, ...]:
    return (
        f"{finding.severity} {finding.check.name}: {_describe(finding)}",
        f"  expected: {finding.check.expected}",
        f"  repair: {finding.check.repair}",
        "",
    )


def _describe(finding: CheckResult) -> str:
    """Return subject and finding on one line; names in them may hold any characters."""
    return escape(": ".join(part for part in (finding.subject, finding.found) if part))
