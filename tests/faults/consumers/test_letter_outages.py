"""An outage makes no dead letter, and without the table for letters nothing is lost; C10, C11, C12.

Invariant I12.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from consumers.assembly import catalog_graph
from consumers.dead_letters.listing import count_letters, list_letters
from consumers.projections.generations import LiveProjection
from consumers.projections.projection import StreamKey
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.kafka import Record, count_unread
from schemas.catalog import ItemUpserted
from tests.kit.consumers.ledger import TOPIC, Ledger, record, records
from tests.kit.consumers.letter_traffic import WITHIN_SECONDS, all_read, found, shown
from tests.kit.load.length import seconds
from tests.kit.load.roles import projecting, running, send_records
from tests.kit.proxies.proxy import Proxy
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]

AWAY_SECONDS = seconds(6, 600)
ITEMS = 5


@asynccontextmanager
async def without_rights(url: str, postgres: Connection) -> AsyncIterator[str]:
    """Yield the address of a role that has every right on dead letters, until one is revoked."""
    await postgres.execute(
        "CREATE ROLE consumer LOGIN PASSWORD 'secret';"
        "GRANT USAGE ON SCHEMA outbox TO consumer;"
        "GRANT SELECT, INSERT, UPDATE ON outbox.dead_letters TO consumer;"
        "GRANT SELECT ON outbox.open_letters TO consumer"
    )
    try:
        own = make_url(url).set(username="consumer", password="secret")  # noqa: S106 - the test's own
        yield own.render_as_string(hide_password=False)
    finally:
        await postgres.execute("DROP OWNED BY consumer; DROP ROLE consumer")


async def refused_statements(postgres: Connection) -> int:
    """How many transactions were rolled back in this database, each by a statement that failed."""
    asked = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    row = await (await postgres.execute(asked)).fetchone()
    assert row is not None
    return int(row[0])


async def test_without_the_dead_letter_table_nothing_is_committed_until_it_is_back(
    quick: Settings, postgres: Connection, ledger: Ledger
) -> None:
    """C10: the consumer waits until it may write again, and then goes on by itself."""
    ledger.refuse(("bad", 1))
    async with without_rights(quick.libpq_url(), postgres) as url:
        limited = quick.model_copy(update={"postgres_url": SecretStr(url)})
        async with running(Runner(limited, ledger)):
            await send_records(quick, records(["good"], 1, 1))
            await shown(ledger, "good", 1)
            await all_read(quick)
            await postgres.execute("REVOKE INSERT ON outbox.dead_letters FROM consumer")
            before = await refused_statements(postgres)
            await send_records(quick, records(["bad"], 1, 3))

            async def waits() -> bool:
                return await refused_statements(postgres) >= before + 3

            await until(waits, WITHIN_SECONDS)
            assert await count_unread(quick.kafka_url, "aftercommit.ledger", [TOPIC]) == 3
            assert await list_letters(postgres) == []
            await postgres.execute("GRANT INSERT ON outbox.dead_letters TO consumer")
            await found(postgres, "waiting", letters=2)
            await all_read(quick)
    assert ledger.versions() == {"good": [1]}
    (dead, *waiting) = await list_letters(postgres)
    assert (dead.status, dead.attempts, len(waiting)) == ("dead", 1, 2)


def items(name: str) -> list[Record]:
    states = [
        ItemUpserted(catalog_id="c", item_id=f"{name}-{n}", name=name, text=name)
        for n in range(ITEMS)
    ]
    return [record(state.key(), 1, state.payload()) for state in states]


async def has_all(graph: LiveProjection, name: str) -> bool:
    streams = [StreamKey(ItemUpserted.aggregate, f"c/{name}-{n}") for n in range(ITEMS)]
    return len(await graph.versions(streams)) == ITEMS


@pytest.mark.timeout(1_200)
async def test_an_outage_of_the_store_spends_no_attempt_and_makes_no_dead_letter(
    quick: Settings, postgres: Connection, graph: LiveProjection
) -> None:
    """C11, C12: the graph, a stand-in if Neo4j itself is not there, is away behind a proxy.

    With LONG=1 it is away for ten minutes. Afterwards everything is there without an operator.
    """
    async with Proxy(urlsplit(quick.neo4j_url).netloc) as proxy:
        behind = quick.model_copy(update={"neo4j_url": f"bolt://{proxy.address}"})
        async with catalog_graph(behind) as away, running(projecting(behind, away)):
            await send_records(quick, items("before"))
            await until(lambda: has_all(graph, "before"), WITHIN_SECONDS)
            await proxy.down()
            end = time.monotonic() + AWAY_SECONDS
            await send_records(quick, items("meanwhile"))

            async def over() -> bool:
                assert await list_letters(postgres) == []
                return time.monotonic() > end

            await until(over, 2 * AWAY_SECONDS + WITHIN_SECONDS)
            await proxy.up()
            await until(lambda: has_all(graph, "meanwhile"), WITHIN_SECONDS)
    assert await count_letters(postgres) == []
