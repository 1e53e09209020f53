"""Dead letters of all consumers as an operator sees them; nothing here changes any."""

from base64 import b64encode
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import psycopg
from psycopg.rows import class_row

from consumers.dead_letters.store import decode_headers
from outbox.errors import InvalidInput
from outbox.operations import describe_given
from outbox.postgres.sql_file import read_statements

T = TypeVar("T")


class LetterStatus(StrEnum):
    """The states of a letter: the first three are open, the last two are closed."""

    DEAD = "dead"
    WAITING = "waiting"
    RETRYING = "retrying"
    APPLIED = "applied"
    DISCARDED = "discarded"


OPEN_STATUSES = (LetterStatus.DEAD, LetterStatus.WAITING, LetterStatus.RETRYING)
AROUND_LETTERS = 20

SQL = read_statements(__file__)
SELECTED = SQL["selected"]


@dataclass(frozen=True, slots=True)
class LetterSelection:
    """Which letters: those that match every field that is set; all of them if none is.

    `letter_reason` is why a letter is dead.
    """

    consumer: str | None = None
    topic: str | None = None
    key: str | None = None
    letter_reason: str | None = None
    ids: list[int] | None = None

    def __str__(self) -> str:
        return describe_given(asdict(self))


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter without its bytes; its times are of PostgreSQL's clock."""

    id: int
    consumer: str
    topic: str
    partition: int
    offset: int
    stream: str | None
    reason: str
    error: str
    attempts: int
    status: str
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class LetterOperation:
    """What an operator did about a letter, and why."""

    operator: str
    role: str
    action: str
    reason: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class LetterWithBytes(Letter):
    """A letter with its bytes; its headers are [[name, base64 of the bytes], ...]."""

    key: bytes | None
    value: bytes | None
    headers: list[list[str]]
    timestamp_milliseconds: int


@dataclass(frozen=True, slots=True)
class SurroundingLetters:
    """The other open letters of the same key: how many, and the ids.

    `before` lists all ids, `behind` the first 20.
    """

    before_letters: int
    behind_letters: int
    before: list[int]
    behind: list[int]


@dataclass(frozen=True, slots=True)
class LetterDetails:
    """Everything that is known of one letter."""

    letter: LetterWithBytes
    around: SurroundingLetters
    operations: list[LetterOperation]


@dataclass(frozen=True, slots=True)
class LetterCount:
    """How many letters of a consumer have a status, and how old the oldest of them is."""

    consumer: str
    status: str
    letters: int
    oldest_age_seconds: float


async def list_letters(
    connection: psycopg.AsyncConnection[Any],
    selection: LetterSelection | None = None,
    *,
    statuses: tuple[LetterStatus, ...] = OPEN_STATUSES,
    limit: int = 100,
    after: int = 0,
) -> list[Letter]:
    """Return letters, the oldest first; the last one's id is `after` of the next page."""
    statement = SQL["list_open"] if statuses == OPEN_STATUSES else SQL["list"]
    page = {"statuses": list(statuses), "limit": limit, "after": after}
    parameters = asdict(selection or LetterSelection()) | page
    return await _fetch(connection, Letter, statement, parameters)


async def read_letter(connection: psycopg.AsyncConnection[Any], letter_id: int) -> LetterDetails:
    """Return one letter, whatever its status; raises InvalidInput if there is none."""
    letters = await _fetch(connection, LetterWithBytes, SQL["show"], [letter_id])
    if not letters:
        raise InvalidInput(
            "dead-letter", "id", f"must be the id of a letter; there is no {letter_id}"
        )
    asked = {"id": letter_id, "limit": AROUND_LETTERS}
    (around,) = await _fetch(connection, SurroundingLetters, SQL["around"], asked)
    operations = await _fetch(connection, LetterOperation, SQL["operations"], [letter_id])
    return LetterDetails(letters[0], around, operations)


async def count_letters(connection: psycopg.AsyncConnection[Any]) -> list[LetterCount]:
    """Count letters by consumer and status; open ones are dead, waiting or retrying.

    It reads every letter, closed ones too, until they are pruned.
    """
    return await _fetch(connection, LetterCount, SQL["count"], [])


def make_readable(raw: bytes | None) -> dict[str, str] | None:
    """Return {"text": ...} if the bytes are UTF-8, else {"base64": ...}; None for no bytes."""
    if raw is None:
        return None
    try:
        return {"text": raw.decode()}
    except UnicodeDecodeError:
        return {"base64": b64encode(raw).decode()}


def make_headers_readable(pairs: list[list[str]]) -> list[dict[str, str]]:
    """Return of each header its name, and its value as `make_readable` gives it."""
    return [{"name": name} | (make_readable(raw) or {}) for name, raw in decode_headers(pairs)]


async def _fetch(
    connection: psycopg.AsyncConnection[Any],
    shape: type[T],
    statement: bytes,
    parameters: dict[str, Any] | list[Any],
) -> list[T]:
    async with connection.cursor(row_factory=class_row(shape)) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()
