"""Drift is exact: every key that differs is found, also under traffic, and no other."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace

import psycopg
import pytest

from consumers.drift.check import CheckOptions, check_in_memory, open_check
from consumers.projections.projection import Entry, StreamKey
from consumers.projections.testing.memory import MemoryProjection
from outbox.errors import DependencyDown, Halted
from outbox.streams.difference import Difference, DifferenceKind
from outbox.streams.latest import read_latest
from tests.kit.projections.catalogued import KEEP, Connection, publish, remove, stream
from tests.kit.projections.followers import Scripted, follow, memory

pytestmark = pytest.mark.anyio

AT_ONCE = CheckOptions(patience_seconds=0)
PATIENT = CheckOptions(patience_seconds=60)
# Upper and lower case, a slash that sorts between, and letters that a language would sort anew.
ITEMS = ["B", "a", "a-1", "a.1", "a:1", "b", *(f"i{n:03}" for n in range(200))]


async def in_step(postgres: Connection, *items: str) -> MemoryProjection:
    store = memory()
    await publish(postgres, *items)
    await follow(postgres, store, map(stream, items))
    return store


async def plant(store: MemoryProjection) -> Difference:
    """Plant a few differences of each kind, and return what a check must find."""
    store.state.pop(stream("B"))
    store.state.pop(stream("i007"))
    for item in ("a", "i199"):
        held = store.state[stream(item)]
        store.state[stream(item)] = replace(held, version=1)
    for item in ("a:1", "i100"):
        held = store.state[stream(item)]
        store.state[stream(item)] = replace(held, digest="altered")
    ghost = store.state[stream("b")]
    for item in ("A", "zz"):
        store.state[stream(item)] = replace(ghost, stream=stream(item))
    return Difference(
        missing=[stream("B"), stream("i007")],
        stale=[stream("a"), stream("i199")],
        orphaned=[stream("A"), stream("zz")],
        different=[stream("a:1"), stream("i100")],
    )


@pytest.mark.parametrize("run_rows", [7, 20_000])
async def test_each_kind_is_found_with_its_key_and_counted(
    postgres: Connection, run_rows: int
) -> None:
    """The result is the same whether the scan is spooled to disk in many runs or held in one."""
    await publish(postgres, "a", "i199")
    store = await in_step(postgres, *ITEMS)
    await remove(postgres, "b")
    await follow(postgres, store, [stream("b")])
    options = CheckOptions(patience_seconds=0, run_rows=run_rows)
    assert (await check_in_memory(postgres, store, options)).keys == 0
    planted = await plant(store)
    assert await check_in_memory(postgres, store, options) == planted
    async with open_check(postgres, store, options) as drift:
        assert drift.counts == dict.fromkeys(DifferenceKind, 2) | {DifferenceKind.FOREIGN: 0}
        assert (drift.heads, drift.shown, drift.keys) == (len(ITEMS), len(ITEMS), 8)
        assert drift.share == pytest.approx(8 / (len(ITEMS) + 2))


async def test_heads_are_read_over_many_pages(
    postgres: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.streams.heads.PAGE_HEADS", 3)
    store = await in_step(postgres, *ITEMS[:10])
    store.state.pop(stream("a.1"))
    assert await check_in_memory(postgres, store, AT_ONCE) == Difference(missing=[stream("a.1")])


async def test_an_empty_store_misses_all_and_an_empty_outbox_has_only_orphans(
    postgres: Connection,
) -> None:
    store = await in_step(postgres, "a", "b")
    assert (await check_in_memory(postgres, memory(), AT_ONCE)).missing == [
        stream("a"),
        stream("b"),
    ]
    await postgres.execute("TRUNCATE outbox.streams")
    assert (await check_in_memory(postgres, store, AT_ONCE)).orphaned == [stream("a"), stream("b")]


async def test_what_is_late_is_no_drift(postgres: Connection) -> None:
    """A key is scanned and looked at before its message is applied; the next look finds it."""
    store = Looked(memory().aggregates, memory().topics)
    await publish(postgres, "a", "b")
    await follow(postgres, store, map(stream, "ab"))
    await publish(postgres, "a", "new")
    checking = asyncio.create_task(check_in_memory(postgres, store, PATIENT))
    async with asyncio.timeout(30):
        await store.looked.wait()
        async with await psycopg.AsyncConnection.connect(postgres.info.dsn, autocommit=True) as own:
            await follow(own, store, [stream("a"), stream("new")])
        assert (await checking).keys == 0


class Looked(MemoryProjection):
    """A stand-in that remembers when it was asked for keys."""

    def __init__(self, *arguments: Iterable[str]) -> None:
        super().__init__(*arguments)
        self.looked = asyncio.Event()

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        shown = await super().versions(streams)
        self.looked.set()
        return shown


async def test_what_stays_behind_is_drift_once_the_patience_is_over(postgres: Connection) -> None:
    store = await in_step(postgres, "a", "b")
    await publish(postgres, "a", "new")
    found = await check_in_memory(postgres, store, CheckOptions(patience_seconds=0.3))
    assert found == Difference(missing=[stream("new")], stale=[stream("a")])


async def test_a_key_that_is_written_all_the_time_and_followed_is_no_drift(
    postgres: Connection,
) -> None:
    """It is behind its head at every look, but never behind the head that made it a candidate."""
    store = Behind(postgres)
    await publish(postgres, "hot")
    await follow(postgres, store, [stream("hot")])
    assert (await check_in_memory(postgres, store, PATIENT)).keys == 0
    assert store.looks > 1


class Behind(MemoryProjection):
    """A stand-in that is one version behind at each look: the next version is written just then."""

    def __init__(self, postgres: Connection) -> None:
        super().__init__(memory().aggregates, memory().topics)
        self.looks = 0
        self._postgres = postgres

    async def scan(self) -> AsyncIterator[Entry]:
        async for entry in super().scan():
            yield entry
        await publish(self._postgres, "hot")

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        shown = await super().versions(streams)
        await follow(self._postgres, self, streams)
        await publish(self._postgres, "hot")
        self.looks += 1
        return shown


async def test_a_key_that_is_written_all_the_time_and_not_followed_is_stale(
    postgres: Connection,
) -> None:
    """Its head moves on at every look, which must not hide that the store stands still."""
    store = await in_step(postgres, "hot")
    await publish(postgres, "hot")
    stop = asyncio.Event()

    async def write() -> None:
        async with await psycopg.AsyncConnection.connect(postgres.info.dsn, autocommit=True) as own:
            while not stop.is_set():
                await publish(own, "hot")

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        found = await check_in_memory(postgres, store, CheckOptions(patience_seconds=0.5))
        stop.set()
    assert found == Difference(stale=[stream("hot")])


class Failing(MemoryProjection):
    """A stand-in whose scan breaks off after the first key."""

    async def scan(self) -> AsyncIterator[Entry]:
        async for entry in super().scan():
            yield entry
            raise DependencyDown("memory", "the second page does not come")


async def test_a_scan_that_breaks_off_is_an_error_and_never_in_sync(postgres: Connection) -> None:
    store = Failing(memory().aggregates, memory().topics)
    await publish(postgres, "a", "b", "c")
    await follow(postgres, store, map(stream, "abc"))
    with pytest.raises(DependencyDown, match="second page"):
        await check_in_memory(postgres, store, AT_ONCE)


async def test_a_scan_that_is_interrupted_says_nothing(postgres: Connection) -> None:
    reached = asyncio.Event()

    class Slow(MemoryProjection):
        async def scan(self) -> AsyncIterator[Entry]:
            reached.set()
            await asyncio.Event().wait()
            yield Entry(stream("never"), 1, "", deleted=False)

    checking = asyncio.create_task(
        check_in_memory(postgres, Slow(memory().aggregates, memory().topics), AT_ONCE)
    )
    await reached.wait()
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking


async def test_a_scan_that_names_a_key_twice_is_an_error(postgres: Connection) -> None:
    store = await in_step(postgres, "a")
    (shown,) = [entry async for entry in store.scan()]
    with pytest.raises(Halted, match=r"memory cannot be compared: .+ twice"):
        await check_in_memory(postgres, Scripted([shown, shown]), AT_ONCE)


async def test_a_key_that_a_scan_left_out_is_found_when_it_is_looked_at(
    postgres: Connection,
) -> None:
    """A key that only the scan missed is no drift: the store is asked for the key itself."""
    store = Scripted([])
    await publish(postgres, "a")
    await follow(postgres, store, [stream("a")])
    assert (await check_in_memory(postgres, store, AT_ONCE)).keys == 0


async def test_no_connection_to_postgres_is_an_error(postgres: Connection) -> None:
    store = await in_step(postgres, "a")
    await postgres.close()
    with pytest.raises(DependencyDown, match="postgres"):
        await check_in_memory(postgres, store, AT_ONCE)


async def test_the_latest_message_is_what_was_published_last(postgres: Connection) -> None:
    """It is found also if only retention kept it; None if the message is nowhere."""
    await publish(postgres, "a", "b", "lost", text="first")
    await publish(postgres, "a", text="second")
    await remove(postgres, "b")
    await postgres.execute("DELETE FROM outbox.messages WHERE aggregateid ~ '/lost$'")
    await postgres.execute(KEEP)
    await postgres.execute("DELETE FROM outbox.messages WHERE aggregateid ~ '/b$'")
    found = await read_latest(postgres, map(stream, ("a", "b", "lost", "never")))
    assert set(found) == set(map(stream, ("a", "b", "lost")))
    a, b = found[stream("a")], found[stream("b")]
    assert a is not None
    assert (a.sequence, a.type, a.source) == (2, "catalog.item-upserted.v1", "/catalog")
    assert b"second" in (a.payload or b"")
    assert b is not None
    assert (b.sequence, b.type) == (2, "catalog.item-removed.v1")
    assert found[stream("lost")] is None
