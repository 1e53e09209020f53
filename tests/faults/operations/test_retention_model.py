"""Retention against a model: whatever happens in whatever order, the latest messages are there; D2.

A script writes, deletes, publishes, parks and prunes, all by one seed, and knows what must be
there. Then it does the same with the usual bugs planted into retention, and must see each of them.
"""

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from consumers.settings import Settings
from outbox.cursor.cut import Snapshot
from outbox.retention.day_partitions import DayPartition
from outbox.retention.retention import Retention
from tests.kit.aged import all_published, fetch, publish_aged, require_latest
from tests.kit.past_days import past_day

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection

KEYS = 6
STEPS = 120
SEEDS = range(8)
AGES = (0, 3, 8, 9, 10)

HEADS = "SELECT aggregateid, version, deleted FROM outbox.latest WHERE id IS NOT NULL"
MESSAGES = "SELECT aggregateid, version FROM outbox.messages"
PARK = """
INSERT INTO outbox.parked_messages
SELECT aggregatetype, aggregateid, position FROM outbox.messages
WHERE aggregateid = %s AND version = ANY (%s)
ON CONFLICT DO NOTHING
"""


class Model:
    """What must be there: each key's version and whether it is deleted; and what must not go."""

    def __init__(self, connection: Connection, settings: Settings, seed: int) -> None:
        self.dropped = self.late = self.kept = 0
        self._connection = connection
        self._settings = settings.model_copy(update={"prune_chunk_messages": 3})
        self._rng = random.Random(seed)
        self._heads: dict[str, tuple[int, bool]] = {}
        self._unpublished: set[tuple[str, int]] = set()
        self._parked: dict[str, set[tuple[str, int]]] = {}
        self._steps: list[Callable[[], Awaitable[None]]] = [
            self._say, self._say, self._say, self._publish, self._prune,
            self._park, self._unpark, self._make_day,
        ]  # fmt: skip

    async def run(self, steps: int) -> None:
        """Run the steps; AssertionError at the first one after which something is wrong."""
        for ago in AGES[2:]:
            await past_day(self._connection, ago)
        for _ in range(steps):
            await self._rng.choice(self._steps)()
            await self._check()
        await self._publish()
        await self._unpark()
        await self._prune()
        await self._check()

    async def _check(self) -> None:
        await require_latest(self._connection)
        shown = {key: (version, gone) for key, version, gone in await self._rows(HEADS)}
        assert shown == self._heads
        there = set(await self._rows(MESSAGES))
        assert self._unpublished <= there
        assert set().union(*self._parked.values()) <= there

    async def _rows(self, statement: str) -> list[tuple[object, ...]]:
        return await fetch(self._connection, statement)

    async def _say(self) -> None:
        key, deletes = f"key-{self._rng.randrange(KEYS)}", self._rng.random() < 0.2
        await publish_aged(self._connection, self._rng.choice(AGES), key, deletes=deletes)
        version = self._heads.get(key, (0, False))[0] + 1
        self._heads[key] = version, deletes
        self._unpublished.add((key, version))

    async def _publish(self) -> None:
        await all_published(self._connection)
        self._unpublished.clear()

    async def _prune(self) -> None:
        today = datetime.now(UTC).date() + timedelta(days=self._rng.choice((-2, 0, 0, 1, 3)))
        pruned = await Retention(self._connection, self._settings, today=today).prune()
        self.dropped += len(pruned.dropped)
        self.kept = max(self.kept, len(await self._rows("SELECT FROM outbox.compacted")))
        self.late += pruned.late

    async def _park(self) -> None:
        """Park all that is there of a key, as far as it is published."""
        key = f"key-{self._rng.randrange(KEYS)}"
        there = {(str(k), int(str(v))) for k, v in await self._rows(MESSAGES) if k == key}
        published = there - self._unpublished
        await self._connection.execute(PARK, [key, [version for _, version in published]])
        self._parked[key] = self._parked.get(key, set()) | published

    async def _unpark(self) -> None:
        """Release all keys, as after an outage of their topic."""
        await self._connection.execute("DELETE FROM outbox.parked_messages")
        self._parked.clear()

    async def _make_day(self) -> None:
        """Make the daily partition again, unless the default partition has messages of that day."""
        with suppress(psycopg.errors.CheckViolation):
            await past_day(self._connection, self._rng.choice(AGES[2:]))


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_latest_message_of_every_key_is_there_whatever_happens(
    settings: Settings, postgres: Connection, seed: int
) -> None:
    """D2: and what is not published, or is parked, is never gone."""
    model = Model(postgres, settings, seed)
    await model.run(STEPS)
    assert model.dropped > 3
    assert model.late > 3
    assert model.kept > 2


async def nothing_kept(
    connection: Connection, day: DayPartition, before: datetime | None, rows: int
) -> tuple[Snapshot, int]:
    """The bug: it compacts nothing, and says that it has."""
    del day, before, rows
    row = await (await connection.execute("SELECT pg_current_snapshot()::text")).fetchone()
    assert row is not None
    return Snapshot.parse(row[0]), 0


async def never_in_the_way(retention: Retention, day: DayPartition) -> None:
    """The bug: what is unpublished or parked may go."""
    del retention, day


async def none_parked(connection: Connection, day: DayPartition) -> int:
    """The bug: what the cursor has passed counts as published, even if it is parked."""
    del connection, day
    return 0


RETENTION = "outbox.retention.retention"
PLANTED = {
    "keep nothing": (f"{RETENTION}.compact", nothing_kept),
    "drop without looking": (f"{RETENTION}.Retention._find_obstacle", never_in_the_way),
    "drop what is parked": (f"{RETENTION}.count_parked", none_parked),
}


@pytest.fixture(params=PLANTED, ids=lambda bug: bug.replace(" ", "-"))
def planted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plant a bug for the length of the test."""
    monkeypatch.setattr(*PLANTED[request.param])
    yield


@pytest.mark.usefixtures("planted")
async def test_a_planted_bug_is_seen(settings: Settings, postgres: Connection) -> None:
    """D2: so the model proves something."""
    with pytest.raises(AssertionError):
        await Model(postgres, settings, SEEDS[0]).run(5 * STEPS)
