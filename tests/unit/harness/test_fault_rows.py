"""No row of the fault matrix is forgotten, and the page that lists them is never stale."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scripts import fault_rows
from scripts.fault_rows import (
    SECTIONS,
    count_rows,
    fill,
    find_mentions,
    find_problems,
    known_rows,
    rows_in,
)

PATH = "tests/faults/test_thing.py"
TESTS = '''"""P1: of the module."""

def test_it_names_nothing() -> None: ...

async def test_it_survives_r6_and_says_so() -> None:
    """R6, P4-P7; not F9, R or 2P3."""

def helper() -> None:
    """P26."""

def test_a_stand_in() -> None:
    """R17, on a stand-in."""
'''
EMPTY = "# Faults\n\n## 5.1 One\n\n\nWords.\n\n" + "".join(
    f"## {section} Another\n\n" for section in list(SECTIONS)[1:]
)


def page(*reasons: str) -> str:
    """Return a page without tests, where these rows have a reason."""
    document = fill(EMPTY, [])
    for row in reasons:
        document = document.replace(f"| {row} | | | | |", f"| {row} | a fault | | | because |")
    return document


def test_a_row_is_named_by_a_word_or_lies_in_a_range_that_is() -> None:
    assert list(rows_in("R6, P4-P7, R1-3: see P10")) == [
        "R6", "P4", "P5", "P6", "P7", "R1", "R2", "R3", "P10",
    ]  # fmt: skip
    assert list(rows_in("I2-I4, M01, PG18, p99, R, 2P3, R6x, P123")) == []


def test_a_row_from_the_field_has_two_letters_and_is_no_fact() -> None:
    assert list(rows_in("FA1-FA3, FC10; F9, A4, XFA1, FA")) == ["FA1", "FA2", "FA3", "FC10"]


def test_a_planted_bug_is_not_taken_for_a_row() -> None:
    assert list(rows_in("M03, M12, M21; M3 and H1-H3, O9")) == ["M3", "H1", "H2", "H3", "O9"]
    assert known_rows()[-3:] == ["FD7", "FD8", "FD9"]


def test_tests_and_modules_are_found_with_the_rows_they_name_and_what_they_stand_on() -> None:
    found = {(each.row, each.test, each.on) for each in find_mentions(TESTS, PATH)}
    survives = f"{PATH}::test_it_survives_r6_and_says_so"
    assert found == {
        ("P1", PATH, "real"),
        *((row, survives, "real") for row in ("R6", "P4", "P5", "P6", "P7")),
        ("R17", f"{PATH}::test_a_stand_in", "stand-in"),
    }
    (unit,) = find_mentions('"""R11."""', "tests/unit/test_x.py")
    assert unit.on == "unit"


def test_what_people_wrote_is_kept_and_the_rest_renewed() -> None:
    before = page("R6", "P2")
    once = fill(before, find_mentions(TESTS, PATH))
    assert f"| R6 | a fault | `{PATH}::test_it_survives_r6_and_says_so` | real | because |" in once
    assert "| P2 | a fault | | | because |" in once
    assert "Words." in once
    assert fill(once, find_mentions(TESTS, PATH)) == once
    assert fill(once, []) == before


def test_a_row_needs_a_test_or_a_reason() -> None:
    found = list(find_mentions(TESTS, PATH))
    reasons = [row for row in known_rows() if row not in {each.row for each in found} | {"P9"}]
    problems = find_problems(fill(page(*reasons), found), found, stale=False)
    assert problems == ["neither a test nor a reason: P9"]
    assert find_problems(fill(page(*reasons, "P9"), found), found, stale=False) == []
    assert count_rows(page("P9"), found)["5.2"]["tested"] == ["R6", "R17"]


def test_a_row_that_there_is_not_is_named() -> None:
    found = list(find_mentions('"""R18."""', PATH))
    assert find_problems(page(*known_rows()), found, stale=False) == [
        f"{PATH} names R18, which is no row"
    ]


def test_the_command_compares_or_writes_and_answers_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / PATH).parent.mkdir(parents=True)
    (tmp_path / PATH).write_text(TESTS)
    file = tmp_path / "faults.md"
    file.write_text(page(*known_rows()))
    monkeypatch.setattr(fault_rows, "ROOT", tmp_path)
    monkeypatch.setattr(fault_rows, "FILE", file)
    stale = (1, "docs/faults.md is stale: run `make fault-rows`")
    assert [run("--check"), run("--check")] == [stale, stale]
    assert run() == (0, "")
    assert run("--check") == (0, "")
    assert "`tests/faults/test_thing.py`" in file.read_text()


def run(*options: str) -> tuple[int, str]:
    """Return the exit code, and what is written to standard error."""
    result = CliRunner().invoke(fault_rows.app, ["--json", *options])
    assert json.loads(result.stdout)["5.1"]["neither"] == []
    return result.exit_code, result.stderr.strip()
