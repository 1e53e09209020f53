"""Read your writes: a write that prefers to wait is answered when the stores show it.

It is the store that is asked, not the consumer: what is shown here is shown to whoever reads the
store next. Neo4j's replicas may lag behind, see consumers/neo4j/projection.py. What is not shown in
time is answered with why it is not.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple, Self

import psycopg
import structlog

from consumers.projections.projection import Entry, Projection, StreamKey
from consumers.settings import Settings
from outbox.errors import OutboxError
from outbox.kafka import count_unread
from outbox.runtime.poll_interval import PollInterval
from outbox.streams.heads import read_heads_of
from outbox.write.database import Database
from outbox.write.unit_of_work import driver_connection
from services.prefer_wait import Pending, Why

log = structlog.get_logger()

REST_SECONDS = 0.25
LOOK_SECONDS = 2.0  # what a store has for an answer, at least
LAG_SECONDS = 2.0  # to ask Kafka how far a group is
LAG_KEPT_SECONDS = 1.0  # many who wait for one consumer ask once

# What stands in the way of a key: first the relay's refusal, then the consumer's dead letter, which
# is the first open one of its key; then whether the relay has passed the head's
# message: the cursor shows it, or the pages of the large cut that it is in have come so far.
OBSTACLES = """
SELECT wanted.aggregatetype, wanted.aggregateid, parked.reason, letter.id, letter.reason,
       EXISTS (
           SELECT FROM outbox.messages AS message, outbox.relay
           WHERE message.position = head.position AND relay.name = 'main'
             AND NOT pg_visible_in_snapshot(message.transaction_id, relay.cursor)
             AND NOT (relay.upto IS NOT NULL AND message.position <= relay.position
                      AND pg_visible_in_snapshot(message.transaction_id, relay.upto)))
FROM unnest(%(aggregates)s::text[], %(keys)s::text[]) AS wanted (aggregatetype, aggregateid)
JOIN outbox.streams AS head USING (aggregatetype, aggregateid)
LEFT JOIN outbox.parked USING (aggregatetype, aggregateid)
LEFT JOIN LATERAL (
    SELECT id, reason FROM outbox.dead_letters
    WHERE consumer = %(consumer)s AND status IN ('dead', 'waiting', 'retrying')
      AND stream IN (SELECT topic || '/' || wanted.aggregateid
                     FROM unnest(%(topics)s::text[]) AS topic)
    ORDER BY partition, "offset" LIMIT 1) AS letter ON true
"""

Assemble = Callable[[Settings], AbstractAsyncContextManager[Projection]]


@dataclass(slots=True)
class Waited:
    """`left` are the versions that the store does not show; `shown` is what it showed last.

    `down` says why its last answer did not come, and then `shown` is older than that.
    """

    left: dict[StreamKey, int]
    shown: dict[StreamKey, Entry] = field(default_factory=dict)
    down: str | None = None


async def wait_for(
    projection: Projection, wanted: Mapping[StreamKey, int], within_seconds: float
) -> Waited:
    """Return once the store shows at least these versions, deletes included, or time is up.

    It looks at least once, and then ever more rarely, four times a second at last. A store that is
    down, or cannot serve, is asked again until the time is up; nothing is raised for it.
    """
    until = monotonic() + within_seconds
    waited, pace = Waited(dict(wanted)), PollInterval(REST_SECONDS)
    while True:
        await _look(projection, waited, max(LOOK_SECONDS, until - monotonic()))
        left = until - monotonic()
        if not waited.left or left <= 0:
            return waited
        await asyncio.sleep(min(left, pace.after(work=False)))


async def _look(projection: Projection, waited: Waited, within_seconds: float) -> None:
    waited.down = f"no answer within {within_seconds:.0f} s"
    with suppress(TimeoutError):
        try:
            async with asyncio.timeout(within_seconds):
                entries = await projection.versions(list(waited.left))
        except OutboxError as error:
            waited.down = str(error)
            return
        waited.down = None
        waited.shown.update(entries)
        for stream, entry in entries.items():
            if entry.version >= waited.left[stream]:
                del waited.left[stream]


class Obstacle(NamedTuple):
    """What is known of a key that a store does not show."""

    refused: str | None
    letter: int | None
    letter_reason: str | None
    unpublished: bool


class WaitedStores:
    """Stores for services.prefer_wait: reads each through its projection.

    A bounded number of requests wait at once; one more than that is answered at once, by what is
    shown at that moment. Each store is opened when it is first waited for, and kept.
    """

    def __init__(
        self, settings: Settings, database: Database, assemble: Mapping[str, Assemble]
    ) -> None:
        self.longest_seconds = settings.wait_longest_seconds
        self._database = database
        self._stores = {name: _Store(name, settings, each) for name, each in assemble.items()}
        self._places = asyncio.Semaphore(settings.waits_side_by_side)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for store in self._stores.values():
            await store.close()

    async def wait(self, streams: Sequence[StreamKey], within_seconds: float) -> list[Pending]:
        """As in Stores: the write is committed already, so whatever fails here is only told."""
        try:
            wanted = await self._heads(streams)
        except OutboxError as error:
            return [Pending("postgres", s, 0, None, Why.UNKNOWN, str(error)) for s in streams]
        if self._places.locked():
            return await self._wait(wanted, 0.0)
        async with self._places:
            return await self._wait(wanted, within_seconds)

    async def _wait(self, wanted: dict[StreamKey, int], within_seconds: float) -> list[Pending]:
        stores = self._stores.values()
        found = await asyncio.gather(*(self._of(each, wanted, within_seconds) for each in stores))
        return [pending for each in found for pending in each]

    async def _of(
        self, store: "_Store", wanted: Mapping[StreamKey, int], within_seconds: float
    ) -> list[Pending]:
        projection = await store.projection()
        if isinstance(projection, str):
            return [_down(store.name, Waited(dict(wanted)), each, projection) for each in wanted]
        own = {s: v for s, v in wanted.items() if s.aggregate in projection.aggregates}
        if not own:
            return []
        waited = await wait_for(projection, own, within_seconds)
        if waited.down is not None:
            return [_down(store.name, waited, each, waited.down) for each in waited.left]
        return await self._explained(store, projection, waited) if waited.left else []

    async def _explained(
        self, store: "_Store", projection: Projection, waited: Waited
    ) -> list[Pending]:
        try:
            obstacles = await self._obstacles(projection, list(waited.left))
        except OutboxError as error:
            return [_pending(store.name, waited, s, Why.UNKNOWN, str(error)) for s in waited.left]
        behind = await store.behind(projection)
        return [
            _pending(store.name, waited, stream, *_why(obstacle, behind))
            for stream, obstacle in obstacles.items()
        ]

    async def _heads(self, streams: Sequence[StreamKey]) -> dict[StreamKey, int]:
        async with self._database.read() as connection:
            heads = await read_heads_of(await driver_connection(connection), streams)
        return {stream: head.version for stream, head in heads.items()}

    async def _obstacles(
        self, projection: Projection, streams: Sequence[StreamKey]
    ) -> dict[StreamKey, Obstacle]:
        of = {"consumer": projection.name, "topics": list(projection.topics)}
        async with self._database.read() as connection:
            driver: psycopg.AsyncConnection[Any] = await driver_connection(connection)
            rows = await (await driver.execute(OBSTACLES, _arrays(streams) | of)).fetchall()
        return {StreamKey(aggregate, key): Obstacle(*rest) for aggregate, key, *rest in rows}


class _Store:
    """One store: opened when it is first asked for, and how far its consumer group is."""

    def __init__(self, name: str, settings: Settings, assemble: Assemble) -> None:
        self.name = name
        self._settings = settings
        self._assemble = assemble
        self._held = AsyncExitStack()
        self._projection: Projection | None = None
        self._opening = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._behind: tuple[float, str] | None = None

    async def close(self) -> None:
        await self._held.aclose()

    async def projection(self) -> Projection | str:
        """Or why it cannot be opened: local mode's folder belongs to one process at a time."""
        async with self._opening:
            if self._projection is None:
                try:
                    opened = self._held.enter_async_context(self._assemble(self._settings))
                    self._projection = await opened
                except (OutboxError, OSError, RuntimeError) as error:
                    return f"{self.name} cannot be opened: {error}"
            return self._projection

    async def behind(self, projection: Projection) -> str:
        """How far the consumer group is, in words; asked once for all who wait at a time."""
        async with self._asking:
            if self._behind is None or monotonic() - self._behind[0] > LAG_KEPT_SECONDS:
                self._behind = (monotonic(), await self._ask(projection))
            return self._behind[1]

    async def _ask(self, projection: Projection) -> str:
        asking: Coroutine[Any, Any, int] = count_unread(
            self._settings.kafka_url, f"aftercommit.{projection.name}", projection.topics
        )
        try:
            async with asyncio.timeout(LAG_SECONDS):
                records = await asking
        except (OutboxError, TimeoutError):
            return "Kafka does not say how far its consumer is"
        if records:
            return f"its consumer is {records} records behind"
        return "its consumer has passed it; see `python -m consumers drift check`"


def _why(obstacle: Obstacle, behind: str) -> tuple[Why, str]:
    if obstacle.refused is not None:
        return Why.PARKED, f"Kafka refused a message of this key: {obstacle.refused}"
    if obstacle.letter is not None:
        return Why.DEAD, f"behind dead letter {obstacle.letter}: {obstacle.letter_reason}"
    return Why.LAG, "the relay has not published it yet" if obstacle.unpublished else behind


def _pending(store: str, waited: Waited, stream: StreamKey, why: Why, detail: str) -> Pending:
    entry = waited.shown.get(stream)
    version = entry.version if entry else 0
    return Pending(store, stream, waited.left[stream], version, why, detail)


def _down(store: str, waited: Waited, stream: StreamKey, detail: str) -> Pending:
    return Pending(store, stream, waited.left[stream], None, Why.DOWN, detail)


def _arrays(streams: Sequence[StreamKey]) -> dict[str, Any]:
    return {"aggregates": [s.aggregate for s in streams], "keys": [s.key for s in streams]}
