"""Statements in .sql files: how they are read, and that code and files name the same ones."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from outbox.postgres.sql_file import INCLUDED, SECTION, read_statements

ROOT = Path(__file__).parents[4]
FILES = sorted(
    path
    for package in ("outbox", "consumers", "services")
    for path in (ROOT / package).rglob("*.sql")
    if path.parent.name != "migrations"
)


def write(folder: Path, text: str) -> str:
    (folder / "lease.sql").write_text(text, encoding="utf-8")
    return str(folder / "lease.py")


def test_a_section_is_a_statement_without_its_comments(tmp_path: Path) -> None:
    module = write(
        tmp_path,
        "-- For the reader.\n\n-- name: take\n-- Why.\nUPDATE a\n  -- and why\nSET b = '--'\n\n"
        "-- name: give\nDELETE FROM a WHERE b = '{}' AND c = '{x,y}'\n",
    )
    assert read_statements(module) == {
        "take": b"UPDATE a\nSET b = '--'",
        "give": b"DELETE FROM a WHERE b = '{}' AND c = '{x,y}'",
    }


def test_a_section_may_stand_inside_a_later_one(tmp_path: Path) -> None:
    module = write(
        tmp_path,
        "-- name: held\nterm = %(term)s\n-- name: take\nUPDATE a SET {b} WHERE {held}\n",
    )
    assert read_statements(module, b=b"b = 1") == {
        "held": b"term = %(term)s",
        "take": b"UPDATE a SET b = 1 WHERE term = %(term)s",
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-- name: a\nSELECT 1\n-- name: a\nSELECT 2\n", "the section a is there twice"),
        ("-- name: a\nSELECT {b}\n-- name: b\nx\n", "no section before it is named b"),
    ],
)
def test_a_mistake_in_a_file_is_an_error_that_names_it(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"lease.sql: {why}"):
        read_statements(write(tmp_path, text))


def find_asked(module: ast.Module) -> Iterator[str]:
    """Yield each name in `SQL["name"]`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "SQL":
            yield ast.literal_eval(node.slice)


def find_texts(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_and_its_file_name_the_same_statements(path: Path) -> None:
    """Each name that the module asks for is a section, and each section is used, here or there."""
    text = path.read_text(encoding="utf-8")
    sections = set(SECTION.findall(text))
    module = ast.parse(path.with_suffix(".py").read_text(encoding="utf-8"))
    assert sections >= set(find_asked(module))
    assert sections <= {*find_texts(module), *INCLUDED.findall(text)}
