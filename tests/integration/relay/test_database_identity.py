"""P13, P14: a relay halts if its cursor is of another history, and an operator lets it go on."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from consumers.settings import Settings
from outbox.cursor.database_identity import read_identity, require_same_identity
from outbox.cursor.reconcile import Remedy, preview_reconcile, reconcile
from outbox.errors import Contention, Halted, InvalidInput, translate_errors
from outbox.operations import Operation
from outbox.postgres.connection import connect
from outbox.relay.relay import Relay
from outbox.status import read_status
from schemas.envelope import Envelope
from tests.kit.load.relaying import relay_all
from tests.kit.load.roles import Collector, running
from tests.kit.operations.command_line import run
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection

TOPIC = "test.note.events"
PUBLISH = "SELECT outbox.publish('test.note', %s, 'test.noted.v1', '{}')"
FAR = 4_000_000_000_000  # transactions ahead of any cluster of a test
WITHIN_SECONDS = 30


async def publish(connection: Connection, *keys: str) -> None:
    for key in keys:
        await connection.execute(PUBLISH, [key])


async def fetch(connection: Connection, statement: str) -> list[tuple[object, ...]]:
    return await (await connection.execute(statement.encode())).fetchall()


def operation(reason: str = "restored") -> Operation:
    return Operation("tester", "reconcile", "relay", reason)


async def another_identity(connection: Connection) -> None:
    """Pretend that the cursor was taken on another timeline of another cluster."""
    await connection.execute(
        "INSERT INTO outbox.database_identity (number, system_identifier, timeline)"
        " VALUES (7, 'other', 99)"
    )


# What a restore of a dump leaves: rows with the ids of a cluster that was far ahead of this one,
# and a lineage that another transaction wrote than the one that it names.
AS_RESTORED = f"""
CREATE FUNCTION far(pg_snapshot) RETURNS pg_snapshot RETURN (
    SELECT (pg_snapshot_xmin($1)::text::bigint + {FAR}) || ':'
        || (pg_snapshot_xmax($1)::text::bigint + {FAR}) || ':'
        || coalesce((SELECT string_agg((xid::text::bigint + {FAR})::text, ',')
                     FROM pg_snapshot_xip($1) AS xid), ''))::pg_snapshot;
UPDATE outbox.messages SET transaction_id = (transaction_id::text::bigint + {FAR})::text::xid8;
UPDATE outbox.database_identity SET transaction_id = (transaction_id::text::bigint +
{FAR})::text::xid8; UPDATE outbox.relay SET cursor = far(cursor), upto = far(upto);
"""  # noqa: S608 - constants


@asynccontextmanager
async def collecting(settings: Settings) -> AsyncIterator[Collector]:
    collector = Collector(settings, TOPIC)
    async with running(collector):
        yield collector


def versions_by_key(envelopes: list[Envelope]) -> dict[str, list[int | None]]:
    """Return the versions of each key, in the order in which they were published."""
    versions: dict[str, list[int | None]] = {}
    for envelope in envelopes:
        versions.setdefault(envelope.key, []).append(envelope.sequence)
    return versions


async def test_the_first_relay_records_where_it_is_and_later_ones_find_it_unchanged(
    postgres: Connection,
) -> None:
    for _ in range(2):
        await require_same_identity(postgres)
    found = await fetch(
        postgres, "SELECT number, system_identifier, timeline FROM outbox.database_identity"
    )
    recorded = """SELECT 1, system_identifier::text, timeline_id
              FROM pg_control_system(), pg_control_checkpoint()"""
    assert found == await fetch(postgres, recorded)
    assert (await read_status(postgres)).halted is None


async def test_rewriting_its_table_does_not_make_a_lineage_foreign(postgres: Connection) -> None:
    await require_same_identity(postgres)
    await postgres.execute("VACUUM (FULL, FREEZE) outbox.database_identity")
    await require_same_identity(postgres)


async def test_any_role_may_compare(postgres: Connection) -> None:
    await require_same_identity(postgres)
    await postgres.execute("CREATE ROLE tester_of_lineage")
    try:
        await postgres.execute("GRANT USAGE ON SCHEMA outbox TO tester_of_lineage")
        await postgres.execute("GRANT SELECT ON ALL TABLES IN SCHEMA outbox TO tester_of_lineage")
        await postgres.execute("SET ROLE tester_of_lineage")
        await require_same_identity(postgres)
    finally:
        await postgres.execute("RESET ROLE")
        await postgres.execute("DROP OWNED BY tester_of_lineage; DROP ROLE tester_of_lineage")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Return a list that gets one entry each time a relay has compared and must not go on."""
    halted: list[Connection] = []

    async def counted(connection: Connection) -> None:
        try:
            await require_same_identity(connection)
        except Halted:
            halted.append(connection)
            raise

    monkeypatch.setattr("outbox.relay.relay.require_same_identity", counted)
    return halted


async def test_a_relay_of_another_history_publishes_nothing_and_goes_on_after_reconcile(
    settings: Settings, postgres: Connection, looks: list[Connection]
) -> None:
    async def looked_thrice() -> bool:
        return len(looks) >= 3

    await require_same_identity(postgres)
    await another_identity(postgres)
    await publish(postgres, "k", "k")
    async with collecting(settings) as collector, running(Relay(settings)):
        await until(looked_thrice, WITHIN_SECONDS, 0.02)
        assert "the timeline was 99 and is 1" in ((await read_status(postgres)).halted or "")
        assert (await read_status(postgres)).relay_term == 0
        assert collector.envelopes == []
        done = await reconcile(postgres, operation())
        assert (done.remedy, done.published, done.to_publish) == (Remedy.FOLLOW, 0, 2)
        assert versions_by_key(await collector.collected(2)) == {"k": [1, 2]}
    assert (await read_status(postgres)).halted is None


async def test_the_command_tells_first_then_repairs_and_is_written_down(
    settings: Settings, postgres: Connection
) -> None:
    await require_same_identity(postgres)
    await another_identity(postgres)
    looked = run(settings, "outbox", "reconcile", "--reason", "failover", "--dry-run", "--json")
    assert looked.returncode == 0, looked.stderr
    assert json.loads(looked.stdout)["remedy"] == "follow"
    assert await fetch(postgres, "SELECT count(*) FROM outbox.operations") == [(0,)]
    result = run(
        settings, "outbox", "reconcile", "--reason", "failover", AFTERCOMMIT_OPERATOR="ann"
    )
    assert "audit" in result.stdout
    assert await fetch(postgres, "SELECT operator, action, reason FROM outbox.operations") == [
        ("ann", "reconcile", "failover")
    ]
    again = run(settings, "outbox", "reconcile", "--reason", "failover", "--json")
    assert json.loads(again.stdout)["remedy"] == "nothing"
    assert await fetch(postgres, "SELECT count(*) FROM outbox.operations") == [(1,)]


async def test_reconcile_is_refused_while_a_relay_leads(
    settings: Settings, postgres: Connection
) -> None:
    async def leads() -> bool:
        return (await read_status(postgres)).relay_leading

    async with running(Relay(settings)):
        await until(leads, WITHIN_SECONDS)
        await another_identity(postgres)
        with pytest.raises(InvalidInput, match="a relay leads"):
            await reconcile(postgres, operation())


async def test_unpublished_messages_of_a_restored_dump_follow_and_published_ones_do_not(
    settings: Settings, postgres: Connection
) -> None:
    """What was written here before the repair, and what is open while it runs, follows, too."""
    await publish(postgres, "a", "b", "a")
    async with collecting(settings) as collector:
        await relay_all(settings, postgres)
        await publish(postgres, "a", "b")
        await postgres.execute(AS_RESTORED)
        await publish(postgres, "a", "c")
        identity = await read_identity(postgres)
        assert identity.copied
        assert identity.cursor_ahead
        assert identity.messages_ahead
        with pytest.raises(Halted, match="outbox reconcile"):
            await require_same_identity(postgres)

        assert await preview_reconcile(postgres) == (
            found := await reconcile(postgres, operation())
        )
        assert (found.remedy, found.published, found.to_publish) == (Remedy.RENUMBER, 3, 4)
        await require_same_identity(postgres)
        await publish(postgres, "b")
        await relay_all(settings, postgres)
        versions = versions_by_key(await collector.collected(8))
    assert versions == {"a": [1, 2, 3, 4], "b": [1, 2, 3], "c": [1]}


async def test_a_message_with_an_id_that_the_old_cursor_shows_is_published_all_the_same(
    settings: Settings, postgres: Connection
) -> None:
    """A cursor that was restored into a younger cluster shows every id drawn here for years."""
    await publish(postgres, "old")
    async with collecting(settings) as collector:
        await relay_all(settings, postgres)
        await postgres.execute(AS_RESTORED)
        await publish(postgres, "new")
        assert (await read_status(postgres)).pending == 0  # it looks as if it were published
        assert (await reconcile(postgres, operation())).to_publish == 1
        await relay_all(settings, postgres)
        assert versions_by_key(await collector.collected(2)) == {"old": [1], "new": [1]}


async def test_a_restored_large_cut_goes_on_where_it_was(
    settings: Settings, postgres: Connection
) -> None:
    """Its positions are lower than those published before, because they were drawn earlier."""
    async with collecting(settings) as collector:
        async with await Connection.connect(settings.libpq_url()) as slow:
            await publish(slow, *["slow"] * 6)
            await publish(postgres, "quick")
            await relay_all(settings, postgres)
        await postgres.execute(
            "UPDATE outbox.relay SET upto = pg_current_snapshot(), position = ("
            " SELECT position FROM outbox.messages WHERE aggregateid = 'slow' AND version = 3)"
        )
        await postgres.execute(AS_RESTORED)
        found = await reconcile(postgres, operation())
        assert (found.remedy, found.published, found.to_publish) == (Remedy.RENUMBER, 4, 3)
        await relay_all(settings, postgres)
        assert versions_by_key(await collector.collected(4)) == {"quick": [1], "slow": [4, 5, 6]}


async def test_positions_that_were_drawn_twice_are_told_apart_by_versions(
    settings: Settings, postgres: Connection
) -> None:
    """Data was restored without the sequence, and writers began before the repair."""
    await publish(postgres, *"aabba")
    async with collecting(settings) as collector:
        await relay_all(settings, postgres)
        await publish(postgres, "a", "b")
        await postgres.execute(AS_RESTORED)
        await postgres.execute("ALTER SEQUENCE outbox.positions RESTART")
        await publish(postgres, "b", "a", "c")
        discarded = (
            "INSERT INTO outbox.discarded_messages SELECT DISTINCT position FROM outbox.messages"
        )
        await postgres.execute(discarded)
        found = await reconcile(postgres, operation())
        assert (found.remedy, found.published, found.to_publish) == (Remedy.REPUBLISH, 0, 10)
        await publish(postgres, "c")
        await relay_all(settings, postgres)
        versions = versions_by_key(await collector.collected(16))
    assert versions == {"a": [1, 2, 3, 1, 2, 3, 4, 5], "b": [1, 2, 1, 2, 3, 4], "c": [1, 2]}
    heads = """SELECT count(*) FROM outbox.streams JOIN outbox.messages
               USING (aggregatetype, aggregateid, version, position)"""
    assert await fetch(postgres, heads) == [(3,)]
    distinct = "SELECT count(DISTINCT position) = count(*) FROM outbox.messages"
    assert await fetch(postgres, distinct) == [(True,)]
    # Its positions belong to other messages now, which were not discarded.
    assert await fetch(postgres, "SELECT count(*) FROM outbox.discarded_messages") == [(0,)]


async def test_a_sequence_that_was_not_restored_is_set_ahead_before_anybody_draws_from_it(
    settings: Settings, postgres: Connection
) -> None:
    await publish(postgres, "k", "k")
    await relay_all(settings, postgres)
    await postgres.execute(AS_RESTORED)
    await postgres.execute("ALTER SEQUENCE outbox.positions RESTART")
    await postgres.execute("ALTER SEQUENCE outbox.deliveries_id_seq RESTART")
    found = await reconcile(postgres, operation())
    assert (found.remedy, found.published, found.to_publish) == (Remedy.RENUMBER, 2, 0)
    await publish(postgres, "k")
    await relay_all(settings, postgres)
    rising = "SELECT array_agg(version ORDER BY position) FROM outbox.messages"
    assert await fetch(postgres, rising) == [([1, 2, 3],)]


async def test_a_sequence_that_a_person_set_ahead_too_late_is_noticed(
    settings: Settings, postgres: Connection
) -> None:
    await publish(postgres, "k", "k", "k")
    await relay_all(settings, postgres)
    await postgres.execute(AS_RESTORED)
    await postgres.execute("ALTER SEQUENCE outbox.positions RESTART")
    await publish(postgres, "new")
    await postgres.execute("SELECT setval('outbox.positions', 1000000)")
    assert (await preview_reconcile(postgres)).remedy is Remedy.REPUBLISH


async def test_writers_at_work_are_waited_for_and_what_they_write_is_published(
    settings: Settings, postgres: Connection
) -> None:
    await publish(postgres, "k")
    await relay_all(settings, postgres)
    await postgres.execute(AS_RESTORED)
    async with (
        await Connection.connect(settings.libpq_url()) as writer,
        await connect(settings) as operator,
    ):
        await publish(writer, "k")
        with pytest.raises(Contention), translate_errors():
            await reconcile(operator, operation(), patience_seconds=0.05)
        assert await fetch(postgres, "SELECT count(*) FROM outbox.operations") == [(0,)]
        await writer.commit()
        assert (await reconcile(operator, operation())).to_publish == 1
