"""Read your writes: a write that prefers to wait is answered once the stores show it.

The store itself is asked, not its consumer, so whoever reads the store next sees the write too.
Weakness: replicas of Neo4j may lag behind, see consumers/neo4j/projection.py. For each key that a
store does not show in time, the answer says why.
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
from outbox.kafka import count_unread, group_of
from outbox.runtime.poll_interval import PollInterval
from outbox.streams.heads import read_heads_of
from outbox.write.database import Database
from outbox.write.unit_of_work import driver_connection
from services.prefer_wait import Pending, Why

log = structlog.get_logger()

REST_SECONDS = 0.25
LOOK_SECONDS = 2.0  # the least time that a store has for an answer
LAG_SECONDS = 2.0  # the time that Kafka has to say how far a group is
LAG_KEPT_SECONDS = 1.0  # so that Kafka is asked once for all who wait for a consumer

# What stands in the way of a key: that its key is parked at the relay, because Kafka refused a
# message; then the first open letter of the key at this consumer; then whether the message of the
# stream head is unpublished.
OBSTACLES = """
SELECT wanted.aggregatetype, wanted.aggregateid, parked.reason, letter.id, letter.reason,
       EXISTS (
           SELECT FROM outbox.messages AS message, outbox.relay
           WHERE message.position = head.position AND relay.name = 'main'
             AND NOT outbox.is_published(message.transaction_id, message.position,
                                         relay.cursor, relay.upto, relay.position))
FROM unnest(%(aggregates)s::text[], %(keys)s::text[]) AS wanted (aggregatetype, aggregateid)
JOIN outbox.streams AS head USING (aggregatetype, aggregateid)
LEFT JOIN outbox.parked USING (aggregatetype, aggregateid)
LEFT JOIN LATERAL (
    SELECT id, reason FROM outbox.open_letters
    WHERE consumer = %(consumer)s
      AND stream IN (SELECT topic || '/' || wanted.aggregateid
                     FROM unnest(%(topics)s::text[]) AS topic)
    ORDER BY partition, "offset" LIMIT 1) AS letter ON true
"""

Assemble = Callable[[Settings], AbstractAsyncContextManager[Projection]]


@dataclass(slots=True)
class Waited:
    """What a wait for one store has come to.

    `left` are the versions that the store does not show; `shown` are the entries that it showed
    last. `down` says why its last answer did not come, and then `shown` is older than that.
    """

    left: dict[StreamKey, int]
    shown: dict[StreamKey, Entry] = field(default_factory=dict)
    down: str | None = None


async def wait_for(
    projection: Projection, wanted: Mapping[StreamKey, int], within_seconds: float
) -> Waited:
    """Wait until the store shows at least these versions, deletes included, or the time is up.

    It looks at least once, and then less and less often, down to four times a second. A store that
    is down, or cannot serve, is asked again until the time is up; nothing is raised for it.
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
    """What is known of a key that a store does not show.

    `refused` is why the relay has parked it; `letter` is the id of its dead letter, and
    `letter_reason` that letter's reason.
    """

    refused: str | None
    letter: int | None
    letter_reason: str | None
    unpublished: bool


class WaitedStores:
    """The stores of services.prefer_wait, each read through its projection.

    A bounded number of requests wait at the same time. A request beyond that is answered at once,
    with what the stores show at that moment. Each store is opened when it is first waited for, and
    stays open.
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
        """Return what the stores do not show in time of the versions that these keys have now.

        It raises nothing: the write is committed already, so a failure here is only reported.
        """
        try:
            wanted = await self._read_heads(streams)
        except OutboxError as error:
            return [Pending("postgres", s, 0, None, Why.UNKNOWN, str(error)) for s in streams]
        if self._places.locked():
            return await self._wait_for_all(wanted, 0.0)
        async with self._places:
            return await self._wait_for_all(wanted, within_seconds)

    async def _wait_for_all(
        self, wanted: dict[StreamKey, int], within_seconds: float
    ) -> list[Pending]:
        stores = self._stores.values()
        found = await asyncio.gather(
            *(self._wait_for_store(each, wanted, within_seconds) for each in stores)
        )
        return [pending for each in found for pending in each]

    async def _wait_for_store(
        self, store: "_Store", wanted: Mapping[StreamKey, int], within_seconds: float
    ) -> list[Pending]:
        projection = await store.open_projection()
        if isinstance(projection, str):
            waited = Waited(dict(wanted))
            return [_build_down(store.name, waited, each, projection) for each in wanted]
        own = {s: v for s, v in wanted.items() if s.aggregate in projection.aggregates}
        if not own:
            return []
        waited = await wait_for(projection, own, within_seconds)
        if waited.down is not None:
            return [_build_down(store.name, waited, each, waited.down) for each in waited.left]
        return await self._explain(store, projection, waited) if waited.left else []

    async def _explain(
        self, store: "_Store", projection: Projection, waited: Waited
    ) -> list[Pending]:
        try:
            obstacles = await self._read_obstacles(projection, list(waited.left))
        except OutboxError as error:
            why = (Why.UNKNOWN, str(error))
            return [_build_pending(store.name, waited, stream, *why) for stream in waited.left]
        behind = await store.describe_lag(projection)
        return [
            _build_pending(store.name, waited, stream, *_find_reason(obstacle, behind))
            for stream, obstacle in obstacles.items()
        ]

    async def _read_heads(self, streams: Sequence[StreamKey]) -> dict[StreamKey, int]:
        async with self._database.read() as connection:
            heads = await read_heads_of(await driver_connection(connection), streams)
        return {stream: head.version for stream, head in heads.items()}

    async def _read_obstacles(
        self, projection: Projection, streams: Sequence[StreamKey]
    ) -> dict[StreamKey, Obstacle]:
        parameters = {"consumer": projection.name, "topics": list(projection.topics)}
        parameters |= _list_columns(streams)
        async with self._database.read() as connection:
            driver: psycopg.AsyncConnection[Any] = await driver_connection(connection)
            rows = await (await driver.execute(OBSTACLES, parameters)).fetchall()
        return {StreamKey(aggregate, key): Obstacle(*rest) for aggregate, key, *rest in rows}


class _Store:
    """One store, opened when it is first asked for, and how far its consumer group is."""

    def __init__(self, name: str, settings: Settings, assemble: Assemble) -> None:
        self.name = name
        self._settings = settings
        self._assemble = assemble
        self._held = AsyncExitStack()
        self._projection: Projection | None = None
        self._opening = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._lag: tuple[float, str] | None = None

    async def close(self) -> None:
        await self._held.aclose()

    async def open_projection(self) -> Projection | str:
        """Open the projection, or return why that is not possible.

        In local mode, for example, the folder belongs to one process at a time.
        """
        async with self._opening:
            if self._projection is None:
                try:
                    opened = self._held.enter_async_context(self._assemble(self._settings))
                    self._projection = await opened
                except (OutboxError, OSError, RuntimeError) as error:
                    return f"{self.name} cannot be opened: {error}"
            return self._projection

    async def describe_lag(self, projection: Projection) -> str:
        """How far the consumer group is, in words; Kafka is asked once for all who wait now."""
        async with self._asking:
            if self._lag is None or monotonic() - self._lag[0] > LAG_KEPT_SECONDS:
                self._lag = (monotonic(), await self._ask_lag(projection))
            return self._lag[1]

    async def _ask_lag(self, projection: Projection) -> str:
        asking: Coroutine[Any, Any, int] = count_unread(
            self._settings.kafka_url, group_of(projection.name), projection.topics
        )
        try:
            async with asyncio.timeout(LAG_SECONDS):
                records = await asking
        except (OutboxError, TimeoutError):
            return "Kafka does not say how far its consumer is"
        if records:
            return f"its consumer is {records} records behind"
        return "its consumer has passed it; see `python -m consumers drift check`"


def _find_reason(obstacle: Obstacle, behind: str) -> tuple[Why, str]:
    if obstacle.refused is not None:
        return Why.PARKED, f"Kafka refused a message of this key: {obstacle.refused}"
    if obstacle.letter is not None:
        return Why.DEAD, f"behind dead letter {obstacle.letter}: {obstacle.letter_reason}"
    return Why.LAG, "the relay has not published it yet" if obstacle.unpublished else behind


def _build_pending(store: str, waited: Waited, stream: StreamKey, why: Why, detail: str) -> Pending:
    entry = waited.shown.get(stream)
    version = entry.version if entry else 0
    return Pending(store, stream, waited.left[stream], version, why, detail)


def _build_down(store: str, waited: Waited, stream: StreamKey, detail: str) -> Pending:
    return Pending(store, stream, waited.left[stream], None, Why.DOWN, detail)


def _list_columns(streams: Sequence[StreamKey]) -> dict[str, Any]:
    return {"aggregates": [s.aggregate for s in streams], "keys": [s.key for s in streams]}
