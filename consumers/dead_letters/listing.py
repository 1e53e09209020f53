"""Letters: dead letters as a person sees them, of all consumers; nothing here changes any."""

from base64 import b64encode
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import psycopg
from psycopg.rows import class_row

from consumers.dead_letters.statements import OPEN
from consumers.dead_letters.store import decode_headers
from outbox.errors import build_rejection

T = TypeVar("T")


class LetterStatus(StrEnum):
    """Open ones need a person or are being redone; the last two are history."""

    DEAD = "dead"
    WAITING = "waiting"
    RETRYING = "retrying"
    APPLIED = "applied"
    DISCARDED = "discarded"


OPEN_STATUSES = (LetterStatus.DEAD, LetterStatus.WAITING, LetterStatus.RETRYING)
AROUND_LETTERS = 20

SELECTED = """
    (%(consumer)s::text IS NULL OR letter.consumer = %(consumer)s)
    AND (%(topic)s::text IS NULL OR letter.topic = %(topic)s)
    AND (%(key)s::text IS NULL OR letter.key = convert_to(%(key)s, 'UTF8'))
    AND (%(letter_reason)s::text IS NULL OR letter.reason = %(letter_reason)s)
    AND (%(ids)s::bigint[] IS NULL OR letter.id = ANY (%(ids)s))
"""
FIELDS = """
    letter.id, letter.consumer, letter.topic, letter.partition, letter."offset", letter.stream,
    letter.reason, letter.error, letter.attempts, letter.status, letter.created_at, letter.closed_at
"""
LISTED = f"""
SELECT {FIELDS} FROM outbox.dead_letters AS letter
WHERE letter.id > %(after)s AND {SELECTED}
"""  # noqa: S608 - constants
# The open ones have an index of their own, which a list of statuses as a parameter would not use.
LIST_OPEN = f"{LISTED} AND letter.{OPEN} ORDER BY letter.id LIMIT %(limit)s"
LIST = f"{LISTED} AND letter.status = ANY (%(statuses)s) ORDER BY letter.id LIMIT %(limit)s"

SHOW = f"""
SELECT {FIELDS}, letter.key, letter.value, letter.headers, letter.timestamp_milliseconds
FROM outbox.dead_letters AS letter WHERE letter.id = %s
"""  # noqa: S608 - constants
# Before it: what must be closed first. Behind it: what is redone after it.
AROUND = f"""
WITH other AS (
    SELECT other.id, row_number() OVER (ORDER BY other.partition, other."offset") AS place,
           (other.partition, other."offset") < (letter.partition, letter."offset") AS earlier
    FROM outbox.dead_letters AS letter
    JOIN outbox.dead_letters AS other ON other.consumer = letter.consumer
         AND other.stream = letter.stream AND other.id <> letter.id AND other.{OPEN}
    WHERE letter.id = %(id)s
)
SELECT count(*) FILTER (WHERE earlier) AS before_letters,
       count(*) FILTER (WHERE NOT earlier) AS behind_letters,
       coalesce(array_agg(id ORDER BY place) FILTER (WHERE earlier), '{{}}') AS before,
       coalesce((array_agg(id ORDER BY place) FILTER (WHERE NOT earlier))[1:%(limit)s], '{{}}')
           AS behind
FROM other
"""  # noqa: S608 - constants
OPERATIONS = """
SELECT operator, role, action, reason, recorded_at FROM outbox.operations
WHERE details -> 'letters' @> to_jsonb(%s::bigint) ORDER BY id
"""
COUNT = """
SELECT consumer, status, count(*) AS letters,
       extract(epoch FROM clock_timestamp() - min(created_at))::float8 AS oldest_age_seconds
FROM outbox.dead_letters GROUP BY consumer, status ORDER BY consumer, status
"""


@dataclass(frozen=True, slots=True)
class LetterSelection:
    """Which letters; all of them where nothing is said. `letter_reason` is why one is dead."""

    consumer: str | None = None
    topic: str | None = None
    key: str | None = None
    letter_reason: str | None = None
    ids: list[int] | None = None

    def __str__(self) -> str:
        said = [f"{name}={value}" for name, value in asdict(self).items() if value is not None]
        return " ".join(said) or "all"


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter without its bytes. Times are of PostgreSQL's clock."""

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
class Act:
    """What a person did about a letter."""

    operator: str
    role: str
    action: str
    reason: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Bytes(Letter):
    """A letter with its bytes. Headers are [[name, base64 of the bytes], ...]."""

    key: bytes | None
    value: bytes | None
    headers: list[list[str]]
    timestamp_milliseconds: int


@dataclass(frozen=True, slots=True)
class Around:
    """The open letters of the same key: how many, and the ids of the first ones."""

    before_letters: int
    behind_letters: int
    before: list[int]
    behind: list[int]


@dataclass(frozen=True, slots=True)
class ShownLetter:
    """All that is known of one letter."""

    letter: Bytes
    around: Around
    operations: list[Act]


@dataclass(frozen=True, slots=True)
class Count:
    """How many letters of a consumer have a status, and how old the oldest is."""

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
    """The oldest first; the last one's id is `after` of the next page."""
    statement = LIST_OPEN if statuses == OPEN_STATUSES else LIST
    page = {"statuses": list(statuses), "limit": limit, "after": after}
    return await _rows(connection, Letter, statement, asdict(selection or LetterSelection()) | page)


async def read_letter(connection: psycopg.AsyncConnection[Any], letter_id: int) -> ShownLetter:
    """One letter, whatever its status; MessageRejected where there is none."""
    letters = await _rows(connection, Bytes, SHOW, [letter_id])
    if not letters:
        raise build_rejection(
            "dead-letter", "id", f"must be the id of a letter; there is no {letter_id}"
        )
    asked = {"id": letter_id, "limit": AROUND_LETTERS}
    (around,) = await _rows(connection, Around, AROUND, asked)
    return ShownLetter(letters[0], around, await _rows(connection, Act, OPERATIONS, [letter_id]))


async def count_letters(connection: psycopg.AsyncConnection[Any]) -> list[Count]:
    """By consumer and status. A consumer's open ones are parked, retrying or dead (I12).

    Reads every letter, closed ones too, until they are pruned.
    """
    return await _rows(connection, Count, COUNT, [])


def make_readable(raw: bytes | None) -> dict[str, str] | None:
    """Bytes as a person can read them: as text if they are any, else in base64."""
    if raw is None:
        return None
    try:
        return {"text": raw.decode()}
    except UnicodeDecodeError:
        return {"base64": b64encode(raw).decode()}


def make_headers_readable(pairs: list[list[str]]) -> list[dict[str, str]]:
    """Each header's name, and its value as in `readable`."""
    return [{"name": name} | (make_readable(raw) or {}) for name, raw in decode_headers(pairs)]


async def _rows(
    connection: psycopg.AsyncConnection[Any],
    shape: type[T],
    statement: str,
    parameters: dict[str, Any] | list[Any],
) -> list[T]:
    async with connection.cursor(row_factory=class_row(shape)) as cursor:
        await cursor.execute(statement.encode(), parameters)
        return await cursor.fetchall()
