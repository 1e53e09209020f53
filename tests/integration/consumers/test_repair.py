"""Repair: it touches just the keys that differ, may run twice, and never disturbs writers."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consumers.drift.check import CheckOptions, check_in_memory, open_check
from consumers.drift.repair import RepairCounts, RepairLimits, RepairTooLarge, repair
from consumers.projections.projection import Change, Entry, Projection, StreamKey, read_change
from consumers.projections.testing.conformance import read_all
from consumers.projections.testing.memory import MemoryProjection
from outbox.cursor.database_identity import require_same_identity
from outbox.errors import DependencyDown, Halted, InvalidInput, MessageRejected
from outbox.operations import Operation
from outbox.streams.latest import read_latest
from tests.kit.aged import fetch
from tests.kit.projections.catalogued import KEEP, PUBLISH, Connection, publish, remove, stream
from tests.kit.projections.followers import follow, memory

pytestmark = pytest.mark.anyio

AT_ONCE = CheckOptions(patience_seconds=0)
ALL = RepairLimits(max_share=1.0, keys_per_second=None)
ITEMS = [f"i{n:03}" for n in range(40)]


def operation(reason: str = "a test") -> Operation:
    return Operation("ann", "drift repair", "memory", reason)


async def repaired(
    postgres: Connection, projection: Projection, limits: RepairLimits = ALL
) -> RepairCounts:
    """Check a projection and repair what was found."""
    async with open_check(postgres, projection, AT_ONCE) as drift:
        return await repair(postgres, projection, drift, limits, operation())


async def latest_of(postgres: Connection, item: str) -> Change:
    envelope = (await read_latest(postgres, [stream(item)]))[stream(item)]
    assert envelope is not None
    return read_change(envelope)


async def shown(projection: Projection) -> dict[StreamKey, Entry]:
    return await read_all(projection)


async def plant(postgres: Connection, store: Projection) -> set[StreamKey]:
    """Plant differences of each kind among ITEMS, of two versions each; return their keys."""
    older = [await latest_of(postgres, item) for item in ITEMS[:6]]
    await publish(postgres, *ITEMS, text="second")
    await remove(postgres, *ITEMS[-4:])
    await follow(postgres, store, map(stream, ITEMS))
    seen = await shown(store)
    gone, rolled_back = ITEMS[6:12], ITEMS[:6]
    altered, undead = ITEMS[12:18], ITEMS[-2:]
    await store.delete_if_unchanged(
        [seen[stream(item)] for item in (*gone, *rolled_back, *altered, *undead)]
    )
    await store.apply(older)
    twins = [await latest_of(postgres, item) for item in altered]
    await store.apply([replace(twin, digest="0" * 32, event_id="0") for twin in twins])
    risen = [replace(older[0], stream=stream(item), version=3) for item in undead]
    await store.apply(risen)
    ghosts = [stream(f"ghost-{n}") for n in range(3)]
    await store.apply([replace(older[0], stream=ghost, version=7) for ghost in ghosts])
    return {*map(stream, (*rolled_back, *gone, *altered, *undead)), *ghosts}


async def test_just_what_differs_is_repaired(postgres: Connection, store: Projection) -> None:
    """Every kind of difference is repaired, a tombstone too; a second repair touches nothing."""
    await publish(postgres, *ITEMS)
    planted = await plant(postgres, store)
    before = await shown(store)
    async with open_check(postgres, store, AT_ONCE) as drift:
        assert {pair.stream for pair in drift.pairs()} == planted
        done = await repair(postgres, store, drift, ALL, operation())
        assert (done.applied, done.forgotten, done.settled, done.failed) == (20, 3, 0, 0)
        again = await repair(postgres, store, drift, ALL, operation())
        assert (again.settled, again.done) == (len(planted), len(planted))
    assert (await check_in_memory(postgres, store, AT_ONCE)).keys == 0
    after = await shown(store)
    untouched = before.keys() - planted
    assert {key: after[key] for key in untouched} == {key: before[key] for key in untouched}
    assert after.keys() == set(map(stream, ITEMS))


async def test_what_retention_kept_repairs_too(postgres: Connection) -> None:
    """The latest messages of a daily partition that was dropped, of a deleted key as well."""
    await publish(postgres, "a", "b")
    await remove(postgres, "b")
    await postgres.execute(KEEP)
    await postgres.execute("DELETE FROM outbox.messages")
    store = memory()
    assert (await repaired(postgres, store)).applied == 2
    assert (await shown(store))[stream("b")].deleted
    assert (await check_in_memory(postgres, store, AT_ONCE)).keys == 0


async def test_what_cannot_be_repaired_is_named_and_stays_as_it_is(postgres: Connection) -> None:
    """A message that is nowhere, and one that is no event; the rest of the page is repaired."""
    await publish(postgres, "lost", "fine")
    await postgres.execute(PUBLISH, [stream("bad").key, "catalog.item-upserted.v1", "{}", False])
    store = memory()
    await follow(postgres, store, [stream("lost")])
    altered = store.state[stream("lost")] = replace(store.state[stream("lost")], digest="altered")
    await postgres.execute("DELETE FROM outbox.messages WHERE aggregateid ~ 'lost$'")
    done = await repaired(postgres, store)
    assert (done.applied, done.failed) == (1, 2)
    assert "in no table" in done.left[stream("lost")]
    assert "catalog_id" in done.left[stream("bad")]
    assert store.state[stream("lost")] == altered
    assert stream("fine") in store.state


async def test_one_that_the_store_refuses_does_not_keep_the_others_back(
    postgres: Connection,
) -> None:
    class Choosy(MemoryProjection):
        """A stand-in that can never take one of the keys."""

        async def apply(self, changes: Sequence[Change]) -> None:
            if any(change.stream == stream("b") for change in changes):
                raise MessageRejected("refused-by-store")
            await super().apply(changes)

    store = Choosy(memory().aggregates, memory().topics)
    await publish(postgres, "a", "b", "c")
    done = await repaired(postgres, store)
    assert (done.applied, list(done.left)) == (2, [stream("b")])
    assert (await check_in_memory(postgres, store, AT_ONCE)).missing == [stream("b")]


async def test_a_store_that_goes_away_is_an_error_and_the_rest_is_repaired_later(
    postgres: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.drift.repair.PAGE_KEYS", 10)

    class Leaving(MemoryProjection):
        """A stand-in that is away from its third write on."""

        writes = 0

        async def apply(self, changes: Sequence[Change]) -> None:
            self.writes += 1
            if self.writes == 3:
                raise DependencyDown("memory", "away")
            await super().apply(changes)

    store = Leaving(memory().aggregates, memory().topics)
    await publish(postgres, *ITEMS)
    with pytest.raises(DependencyDown, match="away"):
        await repaired(postgres, store)
    assert len(store.state) == 20
    assert (await repaired(postgres, store)).applied == 20


async def test_a_repair_of_too_much_is_refused_and_touches_nothing(postgres: Connection) -> None:
    """A few keys are always allowed; more than the share needs an operator's permission."""
    store = memory()
    await publish(postgres, *ITEMS)
    limits = replace(ALL, max_share=0.5, free_keys=10)
    with pytest.raises(RepairTooLarge, match=r"40 of 40 keys differ, and a repair may touch 20"):
        await repaired(postgres, store, limits)
    assert store.state == {}
    assert await fetch(postgres, "SELECT count(*) FROM outbox.operations") == [(0,)]
    few = replace(limits, max_share=0.0)
    await follow(postgres, store, map(stream, ITEMS[10:]))
    assert (await repaired(postgres, store, few)).applied == 10
    await store.delete_if_unchanged(list((await shown(store)).values())[:11])
    with pytest.raises(RepairTooLarge, match=r"--allow-share 0\.28"):
        await repaired(postgres, store, few)


async def test_an_empty_database_does_not_empty_a_store(postgres: Connection) -> None:
    store = memory()
    await publish(postgres, *ITEMS)
    await follow(postgres, store, map(stream, ITEMS))
    await postgres.execute("TRUNCATE outbox.streams")
    with pytest.raises(RepairTooLarge):
        await repaired(postgres, store, RepairLimits())
    assert len(store.state) == len(ITEMS)


async def test_a_repair_is_written_down_before_it_begins(postgres: Connection) -> None:
    store = memory()
    await publish(postgres, "a", "b")
    with pytest.raises(InvalidInput, match="reason"):
        async with open_check(postgres, store, AT_ONCE) as drift:
            await repair(postgres, store, drift, ALL, operation(" "))
    assert store.state == {}
    await repaired(postgres, store)
    recorded = "SELECT operator, action, subject, reason, details FROM outbox.operations"
    found = {"missing": 2, "stale": 0, "orphaned": 0, "different": 0, "foreign": 0}
    assert await fetch(postgres, recorded) == [
        ("ann", "drift repair", "memory", "a test", {"keys": 2, "found": found})
    ]


async def test_nothing_is_repaired_from_another_history(postgres: Connection) -> None:
    """A restored database may be behind the stores: what they have then must not be undone."""
    await require_same_identity(postgres)
    await publish(postgres, "a")
    await postgres.execute("UPDATE outbox.database_identity SET system_identifier = 'another'")
    store = memory()
    with pytest.raises(Halted, match="reconcile"):
        await repaired(postgres, store)
    assert store.state == {}


async def test_a_repair_keeps_its_rate(postgres: Connection) -> None:
    """A lower bound: 40 keys at 40 a second take at least a second."""
    store = memory()
    await publish(postgres, *ITEMS)
    assert (await repaired(postgres, store, replace(ALL, keys_per_second=40))).seconds >= 0.98


class Crossed(MemoryProjection):
    """A stand-in in which the key of an orphan is created just before the orphan is deleted.

    The key's first event is committed and delivered, but the orphan's higher version keeps it out.
    """

    def __init__(self, postgres: Connection) -> None:
        super().__init__(memory().aggregates, memory().topics)
        self._postgres = postgres

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        await publish(self._postgres, "a")
        await follow(self._postgres, self, [stream("a")])
        await super().delete_if_unchanged(entries)


async def test_an_orphan_that_becomes_a_key_meanwhile_is_that_key(
    postgres: Connection,
) -> None:
    store = Crossed(postgres)
    await publish(postgres, "b")
    await follow(postgres, store, [stream("b")])
    ghost = replace(store.state[stream("b")], stream=stream("a"), version=7)
    store.state[stream("a")] = ghost
    assert (await repaired(postgres, store)).applied == 1
    assert (await shown(store))[stream("a")].version == 1
    assert (await check_in_memory(postgres, store, AT_ONCE)).keys == 0
