"""Writes which row of the fault matrix has which test into docs/faults.md.

It reads the tests, and fills the columns `tests` and `on` of the tables there; the columns `fault`
and `why not` are written by hand and stay. With --check nothing is written. Exit code 1 says that
the file is stale, that a row has neither a test nor a reason, or that a test names a row that does
not exist.

Weakness: it believes what tests say of themselves. Only a reader can judge whether a test does what
the row asks.

A test names a row by its id, as a word, in its name or its docstring (`R6`, `P4-P7` for all of
these); a module's docstring counts for the module. The column `on` says `unit` for a test without
servers, `stand-in` where the docstring has that word, and `real` otherwise: PostgreSQL always, and
Kafka as STACK_KAFKA says (see tests/conftest.py).
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from outbox.runtime.output import complain, say, say_json

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "faults.md"
# The sections of the matrix: the letters of their rows, and how many there are of each.
SECTIONS = {
    "5.1": {"P": 26},
    "5.2": {"R": 17},
    "5.3": {"C": 25},
    "5.4": {"Q": 11},
    "5.5": {"N": 11},
    "5.6": {"M": 8, "H": 7, "O": 9},
    "5.7": {"FA": 9, "FB": 5, "FC": 10, "FD": 9},
}
HEADER = ("row", "fault", "tests", "on", "why not")
app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
# M with two digits is a planted bug (M03, M12); rows of 5.6 have one digit.
NAMED = re.compile(r"\b(?!M\d\d)(F?[A-Z])([1-9]\d?)(?:-\1?(\d{1,2}))?\b")


@dataclass(frozen=True)
class Line:
    """One row of the matrix; `tests` are node ids."""

    row: str
    fault: str = ""
    tests: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    why_not: str = ""

    def render(self) -> str:
        """Return the line as Markdown."""
        tests = "<br>".join(f"`{test}`" for test in self.tests)
        cells = (self.row, self.fault, tests, ", ".join(self.on), self.why_not)
        return re.sub(r" +", " ", f"| {' | '.join(cells)} |")


@dataclass(frozen=True)
class Mention:
    """A test, or a module of tests, that names a row."""

    row: str
    test: str
    on: str


def known_rows() -> list[str]:
    return [row for section in SECTIONS for row in rows_of(section)]


def rows_of(section: str) -> list[str]:
    return [
        f"{letter}{n}" for letter, last in SECTIONS[section].items() for n in range(1, last + 1)
    ]


def rows_in(text: str) -> Iterator[str]:
    """Yield every row that the text names, also inside a range; other letters name no rows."""
    letters = {letter for rows in SECTIONS.values() for letter in rows}
    for letter, first, last in NAMED.findall(text):
        if letter in letters:
            yield from (f"{letter}{n}" for n in range(int(first), int(last or first) + 1))


def read_mentions(tests: Path) -> list[Mention]:
    """Read all test modules below this folder, which lies in the root, in the order of names."""
    return [
        mention
        for path in sorted(tests.rglob("test_*.py"))
        for mention in find_mentions(
            path.read_text(encoding="utf-8"), path.relative_to(tests.parent).as_posix()
        )
    ]


def find_mentions(source: str, path: str) -> Iterator[Mention]:
    """Yield the mentions of the module first, then those of its test functions."""
    module = ast.parse(source)
    about = ast.get_docstring(module) or ""
    yield from find_named(about, path, name_servers(path, about))
    for node in ast.walk(module):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("test_"):
            docstring = ast.get_docstring(node) or ""
            words = f"{node.name.replace('_', ' ')} {docstring}"
            yield from find_named(
                words, f"{path}::{node.name}", name_servers(path, f"{about} {docstring}")
            )


def find_named(text: str, test: str, on: str) -> Iterator[Mention]:
    yield from (Mention(row, test, on) for row in dict.fromkeys(rows_in(text)))


def name_servers(path: str, docstring: str) -> str:
    """Return what a test runs on: `unit`, `stand-in` or `real`."""
    if path.startswith("tests/unit/"):
        return "unit"
    return "stand-in" if re.search(r"\bstand-ins?\b", docstring) else "real"


def fill(document: str, found: Iterable[Mention]) -> str:
    """Return the document with its generated columns renewed, and a line for every row."""
    lines = {line.row: line for line in read_lines(document)}
    found = list(found)
    for section in SECTIONS:
        table = [renew_line(lines.get(row, Line(row)), found) for row in rows_of(section)]
        document = replace_table(document, section, table)
    return document


def renew_line(line: Line, found: list[Mention]) -> Line:
    of_row = [mention for mention in found if mention.row == line.row]
    tests = tuple(dict.fromkeys(mention.test for mention in of_row))
    on = tuple(sorted({mention.on for mention in of_row}))
    return Line(line.row, line.fault, tests, on, line.why_not)


def read_lines(document: str) -> Iterator[Line]:
    """Yield what is written by hand in the tables; the generated columns are not read."""
    for text in document.splitlines():
        cells = [cell.strip() for cell in text.strip().strip("|").split("|")]
        if len(cells) == len(HEADER) and cells[0] in known_rows():
            yield Line(cells[0], fault=cells[1], why_not=cells[4])


def replace_table(document: str, section: str, table: list[Line]) -> str:
    """Return the document with this table below the section's heading, instead of the old one."""
    head = f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}\n"
    body = head + "".join(f"{line.render()}\n" for line in table)
    pattern = rf"(^## {re.escape(section)} [^\n]*\n\n)(?:\|[^\n]*\n)*"
    renewed, count = re.subn(pattern, lambda match: match[1] + body, document, flags=re.MULTILINE)
    if count != 1:
        raise typer.BadParameter(f"docs/faults.md needs one heading `## {section} …`")
    return renewed


def count_rows(document: str, found: Iterable[Mention]) -> dict[str, dict[str, list[str]]]:
    """Return the rows of each section: with a test, with a reason only, and with neither."""
    tested = {mention.row for mention in found}
    reasoned = {line.row for line in read_lines(document) if line.why_not}
    return {
        section: {
            "tested": [row for row in rows_of(section) if row in tested],
            "reasoned": [row for row in rows_of(section) if row in reasoned - tested],
            "neither": [row for row in rows_of(section) if row not in tested | reasoned],
        }
        for section in SECTIONS
    }


def find_problems(document: str, found: list[Mention], *, stale: bool) -> list[str]:
    """Return what the developer must repair, a line each."""
    neither = [row for counts in count_rows(document, found).values() for row in counts["neither"]]
    unknown = [f"{each.test} names {each.row}" for each in found if each.row not in known_rows()]
    return [
        *(["docs/faults.md is stale: run `make fault-rows`"] if stale else []),
        *([f"neither a test nor a reason: {', '.join(neither)}"] if neither else []),
        *(f"{each}, which is no row" for each in unknown),
    ]


@app.command()
def main(
    check: Annotated[bool, typer.Option("--check", help="Compare and write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Fill docs/faults.md from the tests; exit code 1 where a row has neither test nor reason."""
    document, found = FILE.read_text(encoding="utf-8"), read_mentions(ROOT / "tests")
    renewed = fill(document, found)
    if not check:
        FILE.write_text(renewed, encoding="utf-8")
    counts = count_rows(renewed, found)
    if json:
        say_json(counts)
    else:
        for section, rows in counts.items():
            say(f"{section}: " + ", ".join(f"{len(rows[kind])} {kind}" for kind in rows))
    problems = find_problems(renewed, found, stale=check and renewed != document)
    for problem in problems:
        complain(problem)
    raise typer.Exit(1 if problems else 0)


if __name__ == "__main__":
    app()
