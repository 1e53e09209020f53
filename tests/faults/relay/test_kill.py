"""`kill -9` of a role at random, in `make faults` of each role and ten times.

I1, I2, I4, I6-I10, R1, C1, M4.

The state at the end must be the state without kills, key by key and version by version: the same
commands, handed to the same handlers one after another in another database, give that state.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import psycopg
import pytest

from consumers.assembly import catalog_vectors
from consumers.commands import dispatch_envelope
from consumers.projections.generations import LiveProjection
from consumers.projections.projection import Projection
from consumers.projections.testing.conformance import read_all
from consumers.settings import Settings
from outbox.kafka import Publisher, count_unread
from outbox.status import read_status
from outbox.streams.heads import Entry, read_heads
from outbox.write.database import Database
from schemas.envelope import Envelope
from services.assembly import catalog, qdrant
from services.catalog.embedder import WordLlamaEmbedder
from stack.demo import airports, upstream
from tests.kit.load.length import FAULTS, LONG
from tests.kit.load.role import Role
from tests.kit.operations.open_letters import list_dead_letters
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KILLS = 10 if FAULTS or LONG else 4
AIRPORTS = 1_200
AGGREGATES = ("catalog.catalog", "catalog.command", "catalog.item")
TOPIC = "catalog.commands"
EVENTS = "catalog.item.events"


def all_commands() -> list[Envelope]:
    """Return puts, changes and removals, in an order that keeps each key's own order."""
    found = airports.commands(airports.read(AIRPORTS))
    return [upstream.envelope_of(command) for command in found]


async def heads(connection: psycopg.AsyncConnection) -> set[Entry]:
    return set(await read_heads(connection, AGGREGATES))


async def reference(settings: Settings, url: str, commands: Sequence[Envelope]) -> set[Entry]:
    """Return the state without kills: without Kafka, without a consumer, without a relay."""
    own = settings.model_copy(update={"postgres_url": type(settings.postgres_url)(url)})
    async with Database(own, "catalog") as database:
        api = catalog(database, lambda: qdrant(own), WordLlamaEmbedder())
        for envelope in commands:
            await dispatch_envelope(api.dispatcher, envelope)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await heads(connection)


async def send(publisher: Publisher, commands: Sequence[Envelope]) -> None:
    await publisher.send(upstream.record_of(command, TOPIC) for command in commands)


async def kill_at_random_moments(
    victim: Role,
    publisher: Publisher,
    commands: Sequence[Envelope],
    rng: random.Random,
    idle: Callable[[], Awaitable[bool]],
) -> int:
    """Kill while fresh work arrives, and return how many of the kills left some of it undone."""
    share = len(commands) // (KILLS + 1) + 1
    interrupted = 0
    for number in range(KILLS):
        await victim.ready()
        await send(publisher, commands[number * share : (number + 1) * share])
        await asyncio.sleep(rng.uniform(0.02, 0.7))
        await victim.kill()
        interrupted += not await idle()
        await victim.start()
    await send(publisher, commands[KILLS * share :])
    return interrupted


async def settled(connection: psycopg.AsyncConnection, commands: int) -> bool:
    rows = await connection.execute("SELECT count(*) FROM outbox.receipts")
    row = await rows.fetchone()
    return row is not None and row[0] >= commands and (await read_status(connection)).pending == 0


async def caught_up(settings: Settings, consumer: str, topic: str = EVENTS) -> bool:
    return await count_unread(settings.kafka_url, f"aftercommit.{consumer}", [topic]) == 0


async def idle(name: str, settings: Settings, connection: psycopg.AsyncConnection) -> bool:
    """Return whether this role has nothing left to do at this moment."""
    if name == "relay":
        return (await read_status(connection)).pending == 0
    if name == "commands":
        return await caught_up(settings, "catalog-commands", TOPIC)
    return await caught_up(settings, name)


async def shown(projection: Projection) -> set[Entry]:
    return set((await read_all(projection)).values())


@asynccontextmanager
async def all_roles(settings: Settings) -> AsyncIterator[dict[str, Role]]:
    async with AsyncExitStack() as stack:
        names = ("relay", "commands", "neo4j", "qdrant")
        yield {name: await stack.enter_async_context(Role(name, settings)) for name in names}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("relay", 11),
        pytest.param("commands", 12, marks=pytest.mark.faults_only),
        pytest.param("qdrant", 13, marks=pytest.mark.faults_only),
        pytest.param("neo4j", 14, marks=pytest.mark.faults_only),
    ],
)
async def test_kills_leave_the_state_that_there_is_without_kills(
    name: str,
    seed: int,
    settings: Settings,
    reference_url: str,
    postgres: psycopg.AsyncConnection,
    graph: LiveProjection,
) -> None:
    create = upstream.envelope_of(airports.create_catalog())
    commands = all_commands()
    expected = await reference(settings, reference_url, [create, *commands])
    of_items = {entry for entry in expected if entry.stream.aggregate == "catalog.item"}
    in_graph = {entry for entry in expected if entry.stream.aggregate in graph.aggregates}
    async with all_roles(settings) as roles, Publisher(settings.kafka_url, 30.0) as publisher:
        await send(publisher, [create])
        await until(lambda: settled(postgres, 1), within_seconds=60)
        interrupted = await kill_at_random_moments(
            roles[name],
            publisher,
            commands,
            random.Random(seed),
            lambda: idle(name, settings, postgres),
        )
        await until(lambda: settled(postgres, 1 + len(commands)), within_seconds=180)
        for group in ("neo4j", "qdrant"):
            await until(partial(caught_up, settings, group), within_seconds=120)
    assert interrupted > 1, "the kills came when there was nothing to interrupt"
    assert await heads(postgres) == expected
    assert await list_dead_letters(settings, 3) == [], "a kill is nobody's message's fault"
    assert await shown(graph) == in_graph
    async with catalog_vectors(settings) as vectors:
        assert await shown(vectors) == of_items
    assert (await read_status(postgres)).dead_letters == 0
