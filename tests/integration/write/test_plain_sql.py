"""An event that a program publishes in SQL, without any of our Python, is as good as ours."""

from functools import partial

import psycopg
import pytest

from consumers.assembly import catalog_vectors
from consumers.drift import check
from consumers.projections.generations import LiveProjection
from consumers.projections.projection import Projection, StreamKey
from consumers.settings import Settings
from outbox.relay.relay import Relay
from tests.kit.load.roles import projecting, running
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

STREAM = StreamKey("catalog.item", "sql/item-1")
UPSERT = """
SELECT outbox.publish('catalog.item', 'sql/item-1', 'catalog.item-upserted.v1', %s::jsonb)
"""
REMOVE = """
SELECT outbox.publish('catalog.item', 'sql/item-1', 'catalog.item-removed.v1',
                      '{"catalog_id": "sql", "item_id": "item-1"}', deletes => true)
"""
PAYLOAD = """{"catalog_id": "sql", "item_id": "item-1", "name": "From psql", "text": "a teapot",
              "attributes": {"colour": "blue"}}"""


async def shows(projection: Projection, version: int, *, deleted: bool) -> bool:
    entry = (await projection.versions([STREAM])).get(STREAM)
    return entry is not None and (entry.version, entry.deleted) == (version, deleted)


async def test_an_item_published_in_sql_appears_in_both_stores_and_goes_again(
    settings: Settings, postgres: psycopg.AsyncConnection, graph: LiveProjection
) -> None:
    async with catalog_vectors(settings) as vectors:
        roles = (Relay(settings), projecting(settings, vectors), projecting(settings, graph))
        async with running(*roles):
            await postgres.execute(UPSERT, [PAYLOAD])
            for store in (vectors, graph):
                await until(partial(shows, store, 1, deleted=False), 30)
            await postgres.execute(REMOVE)
            for store in (vectors, graph):
                await until(partial(shows, store, 2, deleted=True), 30)
        for store in (vectors, graph):
            assert (await check.check_in_memory(postgres, store)).keys == 0


async def test_what_is_rolled_back_in_sql_is_never_published(
    settings: Settings, postgres: psycopg.AsyncConnection, graph: LiveProjection
) -> None:
    async with postgres.transaction(force_rollback=True):
        await postgres.execute(UPSERT, [PAYLOAD])
    await postgres.execute(UPSERT, [PAYLOAD.replace("teapot", "kettle")])
    async with running(Relay(settings), projecting(settings, graph)):
        await until(lambda: shows(graph, 1, deleted=False), 30)
    rows = await postgres.execute("SELECT count(*) FROM outbox.messages")
    assert await rows.fetchone() == (1,)
