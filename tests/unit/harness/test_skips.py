"""FD9: no test is skipped unseen: CI fails on a skip that is not on the list."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.skips import LIST, Entry, Skip, entries, forbidden

ROOT = Path(__file__).parents[3]
TESTS = """
import pytest

def test_that_runs():
    pass

def test_that_is_skipped():
    pytest.skip("no moon tonight")
"""
POOLER = Skip("tests/faults/postgres/test_postgres_pooler.py::test_a", "pgbouncer is not installed")


def run(folder: Path, listed: str, *options: str, **environment: str) -> tuple[int, str]:
    (folder / "test_night.py").write_text(TESTS, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (folder / "allowed.txt").write_text(listed, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "tests.kit.skips", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*command, "--rootdir", str(folder), "-c", str(folder / "pytest.ini"), *options, folder],
        env=os.environ | {"ALLOWED_SKIPS": str(folder / "allowed.txt"), **environment},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize("options", [(), ("--numprocesses", "2")], ids=["alone", "workers"])
def test_a_skip_that_is_not_listed_fails_the_run_and_is_named(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    code, output = run(tmp_path, "", *options, STRICT_SKIPS="1")
    assert code == 1, output
    assert "test_night.py::test_that_is_skipped: no moon tonight" in output


def test_a_listed_skip_is_allowed(tmp_path: Path) -> None:
    code, output = run(tmp_path, "test_night.py::* | no moon *", STRICT_SKIPS="1")
    assert code == 0, output


def test_nobody_else_is_bothered(tmp_path: Path) -> None:
    """A developer's machine may lack anything."""
    assert run(tmp_path, "", STRICT_SKIPS="")[0] == 0


def test_what_was_installed_must_be_used() -> None:
    listed = list(entries(LIST.read_text(encoding="utf-8")))
    assert forbidden([POOLER], listed, []) == []
    assert forbidden([POOLER], listed, ["pgbouncer"]) == [POOLER]


def test_a_listed_test_may_not_be_skipped_for_another_reason() -> None:
    listed = list(entries(LIST.read_text(encoding="utf-8")))
    other = Skip(POOLER.test, "did not feel like it")
    assert forbidden([other], listed, []) == [other]


def test_each_entry_has_a_test_and_a_reason() -> None:
    listed = list(entries(LIST.read_text(encoding="utf-8")))
    assert listed
    assert all(entry.test and entry.reason != "*" for entry in listed)
    assert list(entries("# words\n\na | b | c")) == [Entry("a", "b", "c")]
