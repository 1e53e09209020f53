"""Writes the table of all checks in docs/doctor.md from the checks themselves.

Everything outside the table is written by hand and stays. With --check nothing is written, and exit
code 1 says that the page is stale.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from outbox.doctor import CHECKS, Check
from outbox.runtime.output import complain

FILE = Path(__file__).parents[1] / "docs" / "doctor.md"
COLUMNS = ("check", "where it is not so", "what is expected, and why", "what repairs it")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
TABLE = re.compile(r"(^## Checks\n\n)(?:\|[^\n]*\n)*", flags=re.MULTILINE)
app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


def render_row(check: Check) -> str:
    """Return the line of the table for this check."""
    cells = (
        f"`{check.name}`",
        check.policy.value,
        escape_markdown(check.expected),
        escape_markdown(check.repair),
    )
    return f"| {' | '.join(cells)} |\n"


def escape_markdown(text: str) -> str:
    """Return Markdown that shows the text as it is."""
    return re.sub(r"([|<*])", r"\\\1", text)


def fill(document: str, checks: Iterable[Check] = CHECKS) -> str:
    """Return the document with its table renewed; BadParameter where it has no such heading."""
    table = HEAD + "".join(map(render_row, checks))
    renewed, count = TABLE.subn(lambda match: match[1] + table, document)
    if count != 1:
        raise typer.BadParameter("docs/doctor.md needs one heading `## Checks`")
    return renewed


@app.command()
def main(
    check: Annotated[bool, typer.Option("--check", help="Compare and write nothing.")] = False,
) -> None:
    """Write the table of checks into docs/doctor.md."""
    document = FILE.read_text(encoding="utf-8")
    renewed = fill(document)
    if not check:
        FILE.write_text(renewed, encoding="utf-8")
    elif renewed != document:
        complain("docs/doctor.md is stale: run `python -m scripts.doctor_page`")
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
