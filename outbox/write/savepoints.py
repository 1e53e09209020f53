"""Savepoints: what a statement does to a transaction, and which messages a rollback takes along.

A unit collects its messages and writes them at the end. What was said since a savepoint is
forgotten where the rows since then are undone, whoever set the savepoint: the unit, SQLAlchemy, the
driver or SQL by hand.
"""

import re
from collections.abc import Iterator
from typing import Any

# What may stand before a statement, and what hides a semicolon. A comment may hold comments.
COMMENT = rb"--[^\n]*|/\*(?:/\*.*?\*/|.)*?\*/"
SKIPPED = re.compile(rb"(?:\s|;|" + COMMENT + rb")*", re.DOTALL)
HIDING = re.compile(
    rb"[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$"
    rb"|" + COMMENT + rb"|(;)",
    re.DOTALL,
)
# What ends a transaction; `ROLLBACK TO` a savepoint does not.
WORD = rb"(?:\s+(?:WORK|TRANSACTION))?"
ENDS = re.compile(
    rb"(?:COMMIT|END|ABORT|PREPARE\s+TRANSACTION|ROLLBACK(?!" + WORD + rb"\s+TO\b))\b",
    re.IGNORECASE,
)
NAME = rb"\s+(\"(?:[^\"]|\"\")+\"|[^\s;]+)"
SETS = re.compile(rb"SAVEPOINT" + NAME, re.IGNORECASE)
RELEASES = re.compile(rb"RELEASE(?:\s+SAVEPOINT\b)?" + NAME, re.IGNORECASE)
UNDOES = re.compile(rb"ROLLBACK" + WORD + rb"\s+TO(?:\s+SAVEPOINT\b)?" + NAME, re.IGNORECASE)


def split_statements(text: bytes) -> Iterator[bytes]:
    """Each statement of a text, without what stands before it."""
    start = 0
    if b";" in text:
        for found in HIDING.finditer(text):
            if found[2]:
                yield _bare(text[start : found.start()])
                start = found.end()
    yield _bare(text[start:])


def ends_transaction(statement: bytes) -> bool:
    return ENDS.match(statement) is not None


class Savepoints:
    """The savepoints that are open, each with how much had been said when it was set."""

    def __init__(self, said: list[Any]) -> None:
        self._said = said
        self._open: list[tuple[bytes, int]] = []

    def follow(self, statement: bytes) -> None:
        """Follow what the statement is about to do to them."""
        if found := SETS.match(statement):
            self._open.append((_folded(found[1]), len(self._said)))
        elif found := UNDOES.match(statement):
            self._undo(_folded(found[1]))
        elif found := RELEASES.match(statement):
            self._release(_folded(found[1]))

    def _undo(self, name: bytes) -> None:
        """To the latest of that name, which stays; those set after it are gone."""
        place = self._place(name)
        if place is not None:
            del self._said[self._open[place][1] :]
            del self._open[place + 1 :]

    def _release(self, name: bytes) -> None:
        place = self._place(name)
        if place is not None:
            del self._open[place:]

    def _place(self, name: bytes) -> int | None:
        places = [place for place, (each, _) in enumerate(self._open) if each == name]
        return places[-1] if places else None


def _bare(statement: bytes) -> bytes:
    found = SKIPPED.match(statement)
    return statement[found.end() :] if found else statement


def _folded(name: bytes) -> bytes:
    """As PostgreSQL reads a name: without its quotes, or in small letters."""
    return name[1:-1].replace(b'""', b'"') if name.startswith(b'"') else name.lower()
