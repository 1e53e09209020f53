"""Savepoints: follows the savepoints of a transaction by the text of its statements.

A unit of work collects its messages and writes them at the end. A rollback to a savepoint undoes
the rows since then, so the messages that were collected since then are dropped, too. That holds
whoever set the savepoint: the unit, SQLAlchemy, the driver, or SQL that somebody wrote by hand.
"""

import re
from collections.abc import Iterator
from typing import Any

# What may stand before a statement, and what can hide a semicolon. Comments can be nested.
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
    """Yield each statement of `text`, without the spaces and comments before it."""
    start = 0
    if b";" in text:
        for found in HIDING.finditer(text):
            if found[2]:
                yield _strip_start(text[start : found.start()])
                start = found.end()
    yield _strip_start(text[start:])


def ends_transaction(statement: bytes) -> bool:
    """Return whether the statement commits, prepares or rolls back the whole transaction."""
    return ENDS.match(statement) is not None


class Savepoints:
    """The open savepoints of a transaction, each with the number of messages at that time.

    `messages` is the unit's own list: a rollback to a savepoint shortens it.
    """

    def __init__(self, messages: list[Any]) -> None:
        self._messages = messages
        self._open: list[tuple[bytes, int]] = []

    def follow(self, statement: bytes) -> None:
        """Follow what the statement, which is about to be sent, does to the savepoints."""
        if found := SETS.match(statement):
            self._open.append((_fold_name(found[1]), len(self._messages)))
        elif found := UNDOES.match(statement):
            self._undo(_fold_name(found[1]))
        elif found := RELEASES.match(statement):
            self._release(_fold_name(found[1]))

    def _undo(self, name: bytes) -> None:
        """Go back to the latest savepoint of that name, which stays; later ones are gone."""
        place = self._find_latest(name)
        if place is not None:
            del self._messages[self._open[place][1] :]
            del self._open[place + 1 :]

    def _release(self, name: bytes) -> None:
        place = self._find_latest(name)
        if place is not None:
            del self._open[place:]

    def _find_latest(self, name: bytes) -> int | None:
        places = [place for place, (each, _) in enumerate(self._open) if each == name]
        return places[-1] if places else None


def _strip_start(statement: bytes) -> bytes:
    found = SKIPPED.match(statement)
    return statement[found.end() :] if found else statement


def _fold_name(name: bytes) -> bytes:
    """Return the name as PostgreSQL reads it: without its quotes, or in small letters."""
    return name[1:-1].replace(b'""', b'"') if name.startswith(b'"') else name.lower()
