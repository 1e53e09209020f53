"""Effects: a table as a secondary store, fenced by version, that counts what was done to it.

Each message is applied by one statement, so that a process that is stopped in the middle of it
leaves no lock behind.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from outbox.errors import build_rejection, translate_errors
from schemas.envelope import Envelope

TABLES = """
CREATE TABLE effects (consumer text, key text, version bigint, PRIMARY KEY (consumer, key));
CREATE TABLE applied (consumer text, id text, times int, PRIMARY KEY (consumer, id));
"""
APPLY = """
WITH fenced AS (
    INSERT INTO effects VALUES (%(consumer)s, %(key)s, %(version)s)
    ON CONFLICT (consumer, key) DO UPDATE SET version = EXCLUDED.version
    WHERE effects.version < EXCLUDED.version
    RETURNING consumer
)
INSERT INTO applied SELECT consumer, %(id)s, 1 FROM fenced
ON CONFLICT (consumer, id) DO UPDATE SET times = applied.times + 1
"""
APPLIED = "SELECT id, times FROM applied WHERE consumer = %s"
LETTERS = """
SELECT convert_from(key, 'UTF8') FROM outbox.dead_letters WHERE consumer = %s ORDER BY id
"""
REFUSED = "bad"


@dataclass(frozen=True)
class Verdict:
    """The messages of one consumer without an effect or a letter, and with several effects."""

    lost: frozenset[str]
    doubled: frozenset[str]

    @property
    def right(self) -> bool:
        return not self.lost and not self.doubled

    def __str__(self) -> str:
        some = sorted(self.lost | self.doubled)[:5]
        return f"{len(self.lost)} lost, {len(self.doubled)} doubled, as {some}"


class Effects:
    """A reaction over the tables; with `refuses` it rejects messages of keys like `bad1`."""

    parks_keys = True

    def __init__(
        self, url: str, name: str, topic: str, *, batch: int = 1, slow: float = 0, refuses: bool
    ) -> None:
        self.name = name
        self.topics = (topic,)
        self.batch_messages = batch
        self._url = url
        self._slow_seconds = slow
        self._refuses = refuses
        self._one_at_a_time = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def prepare(self) -> None:
        """Do nothing: the test creates the tables."""

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        if self._refuses and any(envelope.key.startswith(REFUSED) for envelope in envelopes):
            raise build_rejection("schema", "name", "is refused by this store")
        with translate_errors():
            for envelope in envelopes:
                async with self._one_at_a_time:
                    await (await self._connected()).execute(APPLY, self._parameters(envelope))
                await asyncio.sleep(self._slow_seconds)

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True)
        return self._connection

    def _parameters(self, envelope: Envelope) -> dict[str, Any]:
        return {
            "consumer": self.name,
            "key": envelope.key,
            "version": envelope.sequence,
            "id": envelope.id,
        }


async def applied(connection: psycopg.AsyncConnection[Any], consumer: str) -> Mapping[str, int]:
    """How often each message has had its effect, by its id."""
    rows = await connection.execute(APPLIED, [consumer])
    return {row[0]: row[1] for row in await rows.fetchall()}


async def verdict(
    connection: psycopg.AsyncConnection[Any], consumer: str, sent: Sequence[Envelope]
) -> Verdict:
    """Judge what was sent: all messages of a refused key must be letters, all others effects."""
    done = await applied(connection, consumer)
    rows = await connection.execute(LETTERS, [consumer])
    letters = [row[0] for row in await rows.fetchall()]
    dead_lettered = {
        envelope.id
        for envelope in sent
        if letters.count(envelope.key) == sum(envelope.key == each.key for each in sent)
    }
    return Verdict(
        frozenset(envelope.id for envelope in sent) - done.keys() - dead_lettered,
        frozenset(each for each, times in done.items() if times > 1),
    )
