"""What a rebuild may do, and when it stops; the stores here are stand-ins in memory."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from consumers.__main__ import app
from consumers.drift.check import CheckOptions
from consumers.projections.generations import Generation, LiveProjection
from consumers.projections.projection import Change
from consumers.projections.testing.memory import MemoryProjection
from consumers.rebuild.journal import Phase, find_latest, take_lock
from consumers.rebuild.rebuild import drop, rebuild
from consumers.rebuild.request import RebuildRequest
from consumers.settings import Settings
from outbox.errors import DependencyDown, Halted, InvalidInput, build_rejection
from outbox.operations import Operation
from outbox.postgres.connection import connect
from tests.kit.load.role import environment
from tests.kit.projections.catalogued import Connection, publish, remove, stream
from tests.kit.projections.followers import follow, memory

pytestmark = pytest.mark.anyio

AT_ONCE = CheckOptions(patience_seconds=0)
ITEMS = [f"i{n:03}" for n in range(40)]


class MemoryGenerations:
    """A stand-in for the generations of a store; `refused` are keys that a new one never takes."""

    name = "memory"

    def __init__(self) -> None:
        self.held: dict[int, MemoryProjection] = {1: memory()}
        self.number = 1
        self.refused: set[str] = set()
        self.switched: list[int] = []
        self.aggregates, self.topics = memory().aggregates, memory().topics

    async def prepare(self) -> None: ...

    async def list_generations(self) -> list[Generation]:
        return [Generation(number, number == self.number) for number in sorted(self.held)]

    async def live(self) -> MemoryProjection:
        return self.held[self.number]

    async def apply(self, changes: Sequence[Change]) -> None:
        await self.held[self.number].apply(changes)

    async def create(self, number: int, model: str | None = None) -> MemoryProjection:
        del model
        return self.held.setdefault(number, Refusing(self.refused))

    def require_model(self, model: str | None) -> None:
        if model is not None:
            raise Halted("no model to choose")

    async def switch(self, number: int) -> None:
        self.number = number
        self.switched.append(number)

    async def drop(self, number: int) -> None:
        del self.held[number]


class Refusing(MemoryProjection):
    """A stand-in that never takes these keys."""

    def __init__(self, refused: set[str]) -> None:
        super().__init__(memory().aggregates, memory().topics)
        self.refused = refused

    async def apply(self, changes: Sequence[Change]) -> None:
        if any(change.stream.key in self.refused for change in changes):
            raise build_rejection("refused-by-store", "body", "must not be so")
        await super().apply(changes)


def asked(action: str = "rebuild", **more: Any) -> RebuildRequest:
    return RebuildRequest(Operation("ann", action, "memory", "a test"), AT_ONCE, **more)


@pytest.fixture
async def store(postgres: Connection) -> MemoryGenerations:
    """A store whose live generation shows all that was written, deletes too."""
    store = MemoryGenerations()
    await publish(postgres, *ITEMS)
    await remove(postgres, "i007")
    await follow(postgres, store.held[1], map(stream, ITEMS))
    return store


async def test_a_new_generation_holds_all_and_is_live_and_the_former_stays(
    settings: Settings, postgres: Connection, store: MemoryGenerations
) -> None:
    """Even what no relay has published yet; who wanted it, and why, is on record."""
    done = await rebuild(settings, store, asked())
    assert (done.phase, done.generation, done.former) == (Phase.DONE, 2, 1)
    assert (done.keys, done.differing, done.brought) == (len(ITEMS), 0, len(ITEMS))
    assert store.held[2].state == store.held[1].state
    assert store.number == 2
    rows = await postgres.execute("SELECT operator, action, reason FROM outbox.operations")
    assert (await rows.fetchall())[0] == ("ann", "rebuild", "a test")
    again = await rebuild(settings, store, asked())
    assert (again.generation, again.former) == (3, 2)


async def test_a_rollback_repairs_what_the_former_missed_and_switches_back(
    settings: Settings, postgres: Connection, store: MemoryGenerations
) -> None:
    with pytest.raises(Halted, match="no former generation"):
        await rebuild(settings, store, asked("rollback"))
    await rebuild(settings, store, asked())
    await publish(postgres, "i003", "new")
    done = await rebuild(settings, store, asked("rollback"))
    assert (done.phase, done.generation, done.brought, store.number) == (Phase.DONE, 1, 2, 1)
    assert store.held[1].state[stream("i003")].version == 2
    there_again = await rebuild(settings, store, asked("rollback"))
    assert (there_again.generation, store.number) == (2, 2)


async def test_a_rollback_now_switches_before_it_repairs(
    settings: Settings, postgres: Connection, store: MemoryGenerations
) -> None:
    await rebuild(settings, store, asked())
    await publish(postgres, "i003")
    store.held[1].apply = refuse  # type: ignore[method-assign] # nothing can be repaired there
    with pytest.raises(Halted, match="1 keys cannot be brought over"):
        await rebuild(settings, store, asked("rollback"))
    assert store.number == 2
    with pytest.raises(Halted, match="1 keys cannot be brought over"):
        await rebuild(settings, store, asked("rollback", now=True))
    assert store.number == 1


async def refuse(changes: Sequence[Change]) -> None:
    raise build_rejection("refused-by-store", "body", f"must not be {len(changes)}")


async def test_keys_that_cannot_be_brought_over_are_named_and_nothing_is_switched(
    settings: Settings, store: MemoryGenerations
) -> None:
    """The same call goes on once that is repaired, or an operator allows it."""
    store.refused |= {stream("i001").key, stream("i002").key}
    with pytest.raises(Halted, match=r"2 keys cannot .*drifting/i001: refused-by-store"):
        await rebuild(settings, store, asked(allow_left=1))
    assert (store.number, sorted(store.held)) == (1, [1, 2])
    store.refused.remove(stream("i001").key)
    done = await rebuild(settings, store, asked(allow_left=1))
    assert (done.phase, done.generation, done.differing) == (Phase.DONE, 2, 1)
    assert store.held[2].state.keys() == store.held[1].state.keys() - {stream("i002")}


async def test_nobody_rebuilds_beside_another(
    settings: Settings, postgres: Connection, store: MemoryGenerations
) -> None:
    """F7: the lock belongs to a session: it ends with its process, and stays if that is stopped."""
    async with await connect(settings, "another") as other:
        await take_lock(other, store.name)
        for what in (
            rebuild(settings, store, asked()),
            drop(settings, store, 2, asked().operation),
        ):
            with pytest.raises(Halted, match="another process rebuilds memory"):
                await what
    assert await find_latest(postgres, store.name) is None
    assert (await rebuild(settings, store, asked())).phase is Phase.DONE


async def test_an_open_one_is_gone_on_with_or_its_generation_dropped(
    settings: Settings, store: MemoryGenerations, postgres: Connection
) -> None:
    """No number is used twice, so that what is known of a generation stays true."""
    store.refused.add(stream("i001").key)
    with pytest.raises(Halted):
        await rebuild(settings, store, asked())
    with pytest.raises(Halted, match="a rebuild into generation 2 of memory is open"):
        await rebuild(settings, store, asked("rollback"))
    with pytest.raises(Halted, match="generation 1 of memory is live"):
        await drop(settings, store, 1, asked().operation)
    with pytest.raises(Halted, match="no generation 9"):
        await drop(settings, store, 9, asked().operation)
    await drop(settings, store, 2, asked().operation)
    row = await find_latest(postgres, store.name)
    assert row is not None
    assert (row.phase, sorted(store.held)) == (Phase.ABANDONED, [1])
    store.refused.clear()
    assert (await rebuild(settings, store, asked())).generation == 3


async def test_one_that_is_live_but_never_settles_can_be_rolled_back(
    settings: Settings, store: MemoryGenerations
) -> None:
    class Broken(MemoryGenerations):
        async def switch(self, number: int) -> None:
            """After it, the new one takes nothing of one key any more, and has lost it."""
            await store.switch(number)
            if number == 2:
                self.held[2].state.pop(stream("i001"))
                self.refused.add(stream("i001").key)

    broken = Broken()
    broken.held = store.held
    with pytest.raises(Halted, match="1 keys cannot be brought over"):
        await rebuild(settings, broken, asked())
    broken.number = store.number
    assert broken.number == 2
    back = await rebuild(settings, broken, asked("rollback"))
    assert (back.phase, back.generation, store.number) == (Phase.DONE, 1, 1)


async def test_a_store_that_goes_away_leaves_what_the_same_call_goes_on_with(
    settings: Settings, store: MemoryGenerations, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: int) -> None:
        raise DependencyDown("memory", "planted")

    with monkeypatch.context() as planted:
        planted.setattr(store, "switch", away)
        with pytest.raises(DependencyDown):
            await rebuild(settings, store, asked())
    assert store.number == 1
    done = await rebuild(settings, store, asked())
    assert (done.phase, done.generation, done.brought) == (Phase.DONE, 2, len(ITEMS))


async def test_a_reason_is_required(settings: Settings, store: MemoryGenerations) -> None:
    unsaid = RebuildRequest(Operation("ann", "rebuild", "memory", " "), AT_ONCE)
    with pytest.raises(InvalidInput, match="say why"):
        await rebuild(settings, store, unsaid)
    assert (await store.list_generations()) == [Generation(1, True)]


@pytest.mark.usefixtures("graph")
async def test_the_commands_start_show_roll_back_and_drop(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(start_show_roll_back_and_drop, settings, monkeypatch)


def start_show_roll_back_and_drop(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the commands on Qdrant's local mode and the graph, stand-ins if the report says so."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(settings.libpq_url(), autocommit=True) as connection:
        for item in ITEMS:
            body = {"catalog_id": "c", "item_id": item, "name": item, "text": item}
            published = [f"c/{item}", "catalog.item-upserted.v1", json.dumps(body), False]
            connection.execute(PUBLISH, published)
    for name in ("qdrant", "neo4j"):
        of = ("--projection", name, "--reason", "a test")
        done = said("start", *of)
        assert (done["phase"], done["generation"], done["brought"]) == ("done", 2, len(ITEMS))
        assert said("rollback", *of, "--now")["generation"] == 1
        assert said("drop", *of, "--generation", "2") == {"dropped": 2}
        live = {"number": 1, "live": True, "model": LIVE_MODEL.get(name), "foreign": None}
        assert said("status")[name]["generations"] == [live]
    refused = CliRunner().invoke(app, ["rebuild", "rollback", *of])
    assert refused.exit_code == 3
    assert "no former generation" in refused.output


LIVE_MODEL = {"qdrant": "wordllama-l2-supercat-256"}
PUBLISH = "SELECT outbox.publish('catalog.item', %s, %s, %s::jsonb, %s)"


def said(command: str, *arguments: str) -> Any:
    result = CliRunner().invoke(app, ["rebuild", command, *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


async def test_a_live_projection_follows_the_switch(store: MemoryGenerations) -> None:
    live = LiveProjection(store)
    assert await live.versions([stream("i001")])
    await store.create(2)
    await store.switch(2)
    assert await live.versions([stream("i001")]) == {}
