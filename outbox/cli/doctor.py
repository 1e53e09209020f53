"""`python -m outbox doctor`."""

import json as to_json

import typer

from outbox.cli.console import Json, print_table
from outbox.doctor import Diagnosis, Finding, Severity, diagnose
from outbox.process import answer
from outbox.settings import Settings


def doctor(json: Json = False) -> None:
    """Ask PostgreSQL and Kafka whether they keep what the outbox promises; exit code 1 if not.

    Warnings do not count. What is a warning in development may be a failure in production, see
    AFTERCOMMIT_PROFILE and docs/doctor.md.
    """
    settings = Settings()
    diagnosis = answer(settings, diagnose(settings))
    if json:
        typer.echo(to_json.dumps(diagnosis.plain()))
    else:
        _print(diagnosis)
    raise typer.Exit(1 if diagnosis.failed else 0)


def _print(diagnosis: Diagnosis) -> None:
    print_table(("", "check", "found"), [_row(finding) for finding in diagnosis.findings])
    for finding in diagnosis.findings:
        if finding.severity is not Severity.OK:
            typer.echo(_paragraph(finding))
    counts = ", ".join(f"{diagnosis.count(severity)} {severity}" for severity in Severity)
    typer.echo(f"{counts} (profile {diagnosis.profile})")


def _row(finding: Finding) -> tuple[str, str, str]:
    return finding.severity, finding.check.name, _words(finding)


def _paragraph(finding: Finding) -> str:
    return (
        f"{finding.severity} {finding.check.name}: {_words(finding)}\n"
        f"  expected: {finding.check.expected}\n"
        f"  repair: {finding.check.repair}\n"
    )


def _words(finding: Finding) -> str:
    """On one line: names of programs, slots and transactions may hold anything."""
    words = ": ".join(part for part in (finding.subject, finding.found) if part)
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in words)
