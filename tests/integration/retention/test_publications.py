"""FC6: retention can delete its rows while a publication publishes all tables."""

import psycopg
import pytest

from consumers.settings import Settings
from outbox.doctor import Severity
from outbox.doctor.examination import examine_postgres
from outbox.retention.create_ahead import create_day_partitions
from outbox.retention.outcome import PruneResult
from outbox.retention.retention import Retention
from tests.kit.aged import publish, publish_aged
from tests.kit.load.relaying import relay_all
from tests.kit.past_days import past_day

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection

WITHIN_SECONDS = 60
PUBLICATIONS = [
    "CREATE PUBLICATION p FOR ALL TABLES",
    "CREATE PUBLICATION p FOR TABLES IN SCHEMA outbox, catalog",
    "CREATE PUBLICATION p FOR TABLE outbox.messages WITH (publish_via_partition_root)",
    "CREATE PUBLICATION p FOR TABLE outbox.messages_default, outbox.compacted, outbox.deliveries",
]
IDENTITY = "outbox-replica-identities"


async def aged(settings: Settings, connection: Connection) -> None:
    """Give each step of a prune something to do.

    There is a day to drop, an old row of the default partition, a copy that is no longer the latest
    message, a copy that is replaced, and old deliveries.
    """
    await past_day(connection, 20)
    await publish_aged(connection, 20, "a", "b")
    await relay_all(settings, connection)
    pruned = await prune(settings, connection)
    assert len(pruned.dropped) == 1
    await past_day(connection, 9)
    await publish_aged(connection, 9, "b")
    await publish(connection, "a")
    await connection.execute(OLD_ROW)
    await relay_all(settings, connection)
    await connection.execute(
        "UPDATE outbox.deliveries SET delivered_at = now() - interval '1 year'"
    )


OLD_ROW = """
    INSERT INTO outbox.messages_default (position, id, aggregatetype, aggregateid, type, version,
                                         topic, created_at)
    VALUES (1, gen_random_uuid(), 'test.note', 'late', 'test.noted.v1', 1, 'test.note.events',
            now() - interval '90 days')"""


async def prune(settings: Settings, connection: Connection) -> PruneResult:
    return await Retention(connection, settings).prune()


async def found(settings: Settings) -> list[tuple[Severity, str]]:
    findings = (await examine_postgres(settings)).findings
    return [(each.severity, each.subject) for each in findings if each.check.name == IDENTITY]


@pytest.mark.parametrize("publication", PUBLICATIONS)
async def test_a_prune_does_all_its_steps_beside_any_publication(
    settings: Settings, postgres: Connection, publication: str
) -> None:
    """This includes the daily partitions that are made after the publication."""
    if "IN SCHEMA" in publication and postgres.info.server_version < 150_000:
        pytest.skip("PostgreSQL 15 and newer publish a schema")
    own = settings.model_copy(update={"prune_check_seconds": 0.0})
    await aged(own, postgres)
    await postgres.execute(publication.encode())
    assert await create_day_partitions(postgres, 9) > 0
    pruned = await prune(own, postgres)
    assert (len(pruned.dropped), pruned.left) == (1, {})
    assert pruned.late == 1
    assert pruned.kept == 1
    assert pruned.deliveries > 0
    assert await found(own) == [(Severity.OK, "")]


@pytest.mark.parametrize(
    "publication",
    [
        "CREATE PUBLICATION p FOR TABLE outbox.compacted (aggregatetype)",
        "CREATE PUBLICATION p FOR TABLE outbox.compacted WHERE (version > 1)",
    ],
)
async def test_doctor_names_a_table_of_which_columns_or_rows_are_published(
    settings: Settings, postgres: Connection, publication: str
) -> None:
    """The table has its replica identity, and PostgreSQL refuses the deletion all the same."""
    if postgres.info.server_version < 150_000:
        pytest.skip("PostgreSQL 15 and newer publish columns and rows of a table")
    await postgres.execute(publication.encode())
    with pytest.raises(psycopg.Error, match="cannot delete from table"):
        await postgres.execute("DELETE FROM outbox.compacted")
    assert await found(settings) == [(Severity.WARNING, "outbox.compacted")]


async def test_every_table_of_ours_can_be_updated_and_deleted_from_while_all_are_published(
    postgres: Connection,
) -> None:
    await postgres.execute("CREATE PUBLICATION p FOR ALL TABLES")
    rows = await postgres.execute("""
        SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
        WHERE schemaname IN ('outbox', 'catalog')""")
    tables = [name for (name,) in await rows.fetchall()]
    assert "outbox.messages_default" in tables
    assert "catalog.items" in tables
    for table in tables:
        async with postgres.transaction(force_rollback=True):
            # PostgreSQL would refuse before it looks at any row.
            await postgres.execute(f"DELETE FROM {table}".encode())  # noqa: S608 - ours


async def test_a_step_that_fails_is_told_and_the_others_are_done(
    settings: Settings, postgres: Connection
) -> None:
    """Doctor names each table whose replica identity was taken away."""
    own = settings.model_copy(update={"prune_check_seconds": 0.0})
    await aged(own, postgres)
    await postgres.execute("ALTER TABLE outbox.messages_default REPLICA IDENTITY NOTHING")
    await postgres.execute("ALTER TABLE outbox.compacted REPLICA IDENTITY NOTHING")
    await postgres.execute("CREATE PUBLICATION p FOR ALL TABLES")
    pruned = await prune(own, postgres)
    (day,) = pruned.left.keys() - {"late", "kept"}
    assert "replica identity" in pruned.left["late"]
    assert "replica identity" in pruned.left["kept"]
    assert "replica identity" in pruned.left[day], "the copies are updated before a day is dropped"
    assert await found(own) == [
        (Severity.WARNING, "outbox.compacted"),
        (Severity.WARNING, "outbox.messages_default"),
    ]
    await postgres.execute("ALTER TABLE outbox.compacted REPLICA IDENTITY DEFAULT")
    pruned = await prune(own, postgres)
    assert len(pruned.dropped) == 1
    assert pruned.left.keys() == {"late"}
    assert "replica identity" in pruned.left["late"]
