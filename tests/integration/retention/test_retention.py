"""Retention: a day is dropped when all of it is published, and the latest messages stay."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from consumers.settings import Settings
from outbox.cursor.cut import Snapshot
from outbox.cursor.reconcile import Remedy, reconcile
from outbox.retention.compaction import compact
from outbox.retention.day_partitions import DEFAULT_PARTITION, DayPartition
from outbox.retention.retention import Retention
from tests.integration.relay.test_database_identity import AS_RESTORED, another_identity, operation
from tests.kit.aged import AGE, all_published, fetch, publish, publish_aged, require_latest
from tests.kit.past_days import days_there, past_day

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection

# A message of a transaction that began nine days ago and writes only now.
OLD_MESSAGE = """
    INSERT INTO outbox.messages
        (position, id, aggregatetype, aggregateid, type, version, topic, created_at)
    VALUES (1, gen_random_uuid(), 'test.note', 'old', 'test.noted.v1', 1, 't',
            now() - interval '9 days')
"""
# Deliveries of 20, 18, 16 ... and 0 days ago.
DELIVERIES = """
    INSERT INTO outbox.deliveries (term, topic, partition, first_offset, last_offset,
                                   first_position, last_position, messages, delivered_at)
    SELECT 1, 't', 0, n, n, n, n, 1, now() - make_interval(days => 20 - 2 * n)
    FROM generate_series(0, 10) AS n
"""


async def test_a_published_day_is_dropped_and_every_keys_latest_message_stays(
    settings: Settings, postgres: Connection
) -> None:
    """This holds for keys that moved on, that were deleted, and that get newer messages later."""
    await past_day(postgres, 9)
    await past_day(postgres, 5)
    await publish_aged(postgres, 9, *"aabc")
    await publish_aged(postgres, 9, "gone", deletes=True)
    await publish_aged(postgres, 5, "b")
    await publish(postgres, "c")
    await all_published(postgres)
    pruned = await Retention(postgres, settings).prune()
    day = datetime.now(UTC).date() - timedelta(days=9)
    assert (pruned.dropped, pruned.left) == ([str(day)], {})
    assert len(await days_there(postgres)) == 1
    await require_latest(postgres)
    kept = "SELECT aggregateid, version FROM outbox.compacted ORDER BY 1"
    assert await fetch(postgres, kept) == [("a", 2), ("gone", 1)]


async def left_after(connection: Connection, settings: Settings) -> str:
    """Prune one day that must stay, and return the reason."""
    pruned = await Retention(connection, settings).prune()
    assert pruned.dropped == []
    assert len(await days_there(connection)) == 1
    await require_latest(connection)
    (why,) = pruned.left.values()
    return why


async def test_a_day_with_an_unpublished_message_stays(
    settings: Settings, postgres: Connection
) -> None:
    """P19: also where a transaction that was open made it visible behind the cursor."""
    await past_day(postgres, 9)
    await publish_aged(postgres, 9, "a")
    async with await Connection.connect(settings.libpq_url()) as slow:
        await publish(slow, "slow")
        await all_published(postgres)
        await slow.commit()
    await postgres.execute(AGE, [9])
    assert (await left_after(postgres, settings)).startswith("unpublished")
    await all_published(postgres)
    await publish_aged(postgres, 9, "b")
    assert (await left_after(postgres, settings)).startswith("unpublished")


async def test_a_day_inside_a_large_cut_stays(settings: Settings, postgres: Connection) -> None:
    """A message counts as published when the cursor shows it, and not before."""
    await past_day(postgres, 9)
    await all_published(postgres)
    await publish_aged(postgres, 9, "a", "b")
    await postgres.execute(
        "UPDATE outbox.relay SET upto = pg_current_snapshot(),"
        " position = (SELECT max(position) FROM outbox.messages)"
    )
    assert (await left_after(postgres, settings)).startswith("unpublished")


async def test_a_day_with_a_parked_message_stays_until_it_is_published_or_discarded(
    settings: Settings, postgres: Connection
) -> None:
    """R7: messages that wait behind a refused one are not published."""
    await past_day(postgres, 9)
    await publish_aged(postgres, 9, "a", "b")
    await all_published(postgres)
    await postgres.execute(
        "INSERT INTO outbox.parked_messages SELECT aggregatetype, aggregateid, position"
        " FROM outbox.messages WHERE aggregateid = 'a'"
    )
    assert await left_after(postgres, settings) == (
        "parked: 1 messages wait behind one that Kafka refused"
    )
    await postgres.execute("DELETE FROM outbox.parked_messages")
    assert (await Retention(postgres, settings).prune()).left == {}


async def test_a_day_of_another_history_stays(settings: Settings, postgres: Connection) -> None:
    """Where a relay would halt, it is unknown what was published."""
    await past_day(postgres, 9)
    await publish_aged(postgres, 9, "a")
    assert "no relay has published" in await left_after(postgres, settings)
    await all_published(postgres)
    await another_identity(postgres)
    assert "outbox reconcile" in await left_after(postgres, settings)


async def test_a_day_that_an_open_transaction_has_written_to_stays(
    settings: Settings, postgres: Connection
) -> None:
    """P6: what it wrote is invisible, but its lock is not; prepared transactions count too."""
    await past_day(postgres, 9)
    await publish_aged(postgres, 9, "a")
    await all_published(postgres)
    quick = settings.model_copy(update={"prune_lock_timeout_milliseconds": 50})
    async with await Connection.connect(settings.libpq_url()) as slow:
        await slow.execute(OLD_MESSAGE)
        assert (await left_after(postgres, quick)).startswith("locked: ")
        await slow.rollback()
    assert (await Retention(postgres, settings).prune()).left == {}


async def test_a_message_that_comes_between_the_copy_and_the_drop_keeps_the_day(
    settings: Settings, postgres: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be its key's latest message, and it was not copied."""
    await past_day(postgres, 9)
    await publish_aged(postgres, 9, "a")
    await all_published(postgres)

    async def compact_and_write(
        connection: Connection, day: DayPartition, before: datetime | None, rows: int
    ) -> tuple[Snapshot, int]:
        kept = await compact(connection, day, before, rows)
        if day != DEFAULT_PARTITION:
            await publish_aged(connection, 9, "a")
            await all_published(connection)
        return kept

    monkeypatch.setattr("outbox.retention.retention.compact", compact_and_write)
    assert (await left_after(postgres, settings)).startswith("written")
    monkeypatch.undo()
    assert (await Retention(postgres, settings).prune()).left == {}
    await require_latest(postgres)


async def test_late_messages_are_deleted_by_the_same_rules(
    settings: Settings, postgres: Connection
) -> None:
    """A transaction that began in a dropped day writes to the default partition."""
    await publish_aged(postgres, 9, "a", "a", "b", "parked", "parked")
    await all_published(postgres)
    await postgres.execute(
        "INSERT INTO outbox.parked_messages SELECT aggregatetype, aggregateid, position"
        " FROM outbox.messages WHERE aggregateid = 'parked' AND version = 1"
    )
    await publish_aged(postgres, 9, "c")
    await publish_aged(postgres, 3, "young")
    pruned = await Retention(postgres, settings).prune()
    assert pruned.late == 4
    assert list(pruned.left) == ["late"]
    left = "SELECT aggregateid, version FROM outbox.messages ORDER BY 1"
    assert await fetch(postgres, left) == [("c", 1), ("parked", 1), ("young", 1)]
    await require_latest(postgres)
    assert (await Retention(postgres, settings).prune()).late == 0


async def test_many_rows_are_looked_at_a_few_at_a_time(
    settings: Settings, postgres: Connection
) -> None:
    await past_day(postgres, 9)
    await publish_aged(postgres, 9, *(f"k{number}" for number in range(23)))
    await publish_aged(postgres, 30, *(f"k{number}" for number in range(0, 23, 2)))
    await all_published(postgres)
    few = settings.model_copy(update={"prune_chunk_messages": 5})
    pruned = await Retention(postgres, few).prune()
    assert (len(pruned.dropped), pruned.late, pruned.left) == (1, 12, {})
    assert await fetch(postgres, "SELECT count(*) FROM outbox.compacted") == [(23,)]
    await require_latest(postgres)
    await publish(postgres, *(f"k{number}" for number in range(1, 23, 2)))
    assert (await Retention(postgres, few).prune()).kept == 11
    await require_latest(postgres)


async def test_deliveries_are_forgotten_with_the_messages_that_they_tell_of(
    settings: Settings, postgres: Connection
) -> None:
    await past_day(postgres, 20)
    await past_day(postgres, 9)
    await publish_aged(postgres, 20, "a")
    await publish_aged(postgres, 9, "b")
    await all_published(postgres)
    await publish_aged(postgres, 9, "c")
    await postgres.execute(DELIVERIES)
    few = settings.model_copy(update={"prune_chunk_messages": 2})
    pruned = await Retention(postgres, few).prune()
    assert (len(pruned.dropped), len(pruned.left), pruned.deliveries) == (1, 1, 6)
    await all_published(postgres)
    assert (await Retention(postgres, few).prune()).deliveries == 1
    assert await fetch(postgres, "SELECT count(*) FROM outbox.deliveries") == [(4,)]


async def test_a_dry_run_changes_nothing_and_tells_what_a_prune_does(
    settings: Settings, postgres: Connection
) -> None:
    await past_day(postgres, 9)
    await past_day(postgres, 8)
    await publish_aged(postgres, 9, "a")
    await all_published(postgres)
    await publish_aged(postgres, 8, "b")
    looked = await Retention(postgres, settings).preview()
    assert len(await days_there(postgres)) == 2
    assert await fetch(postgres, "SELECT count(*) FROM outbox.compacted") == [(0,)]
    pruned = await Retention(postgres, settings).prune()
    assert (looked.dropped, looked.left) == (pruned.dropped, pruned.left)


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "Pacific/Honolulu", "UTC"])
async def test_days_are_told_by_the_clock_of_the_database_in_utc(
    settings: Settings, postgres: Connection, zone: str
) -> None:
    """P25: neither the session's time zone nor the clock of this program matters."""
    await postgres.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    for ago in (6, 7, 8):
        await past_day(postgres, ago)
    await all_published(postgres)
    pruned = await Retention(postgres, settings).prune()
    day = datetime.now(UTC).date() - timedelta(days=8)
    assert pruned.dropped == [str(day)]
    assert len(await days_there(postgres)) == 2


async def test_a_clock_that_leaps_drops_nothing_that_is_unpublished(
    settings: Settings, postgres: Connection
) -> None:
    """P25: rows of a day that was dropped so go to the default partition, and none is lost."""
    await publish(postgres, "a")
    await all_published(postgres)
    await publish(postgres, "b")
    leapt = datetime.now(UTC).date() + timedelta(days=400)
    pruned = await Retention(postgres, settings, today=leapt).prune()
    assert list(pruned.left) == [str(datetime.now(UTC).date())]
    await all_published(postgres)
    assert (await Retention(postgres, settings, today=leapt).prune()).left == {}
    await publish(postgres, "a", "c")
    late = "SELECT aggregateid, version FROM outbox.messages_default ORDER BY 1"
    assert await fetch(postgres, late) == [("a", 2), ("c", 1)]
    await require_latest(postgres)


async def test_what_is_kept_comes_through_a_restore_and_its_repair(
    settings: Settings, postgres: Connection
) -> None:
    """P14: positions that are drawn anew leave the copies and their stream heads as they are."""
    await past_day(postgres, 9)
    await publish_aged(postgres, 9, *"aab")
    await publish(postgres, "b", "c")
    await all_published(postgres)
    assert (await Retention(postgres, settings).prune()).left == {}
    await postgres.execute(AS_RESTORED)
    await postgres.execute("ALTER SEQUENCE outbox.positions RESTART")
    await publish(postgres, "c", "d")
    found = await reconcile(postgres, operation())
    assert (found.remedy, found.to_publish) == (Remedy.REPUBLISH, 4)
    await require_latest(postgres)
    await publish(postgres, "a")
    await all_published(postgres)
    leapt = datetime.now(UTC).date() + timedelta(days=30)
    assert (await Retention(postgres, settings, today=leapt).prune()).left == {}
    assert await fetch(postgres, "SELECT count(*) FROM outbox.messages") == [(0,)]
    await require_latest(postgres)
    rising = "SELECT aggregateid, version FROM outbox.compacted ORDER BY position DESC LIMIT 1"
    assert await fetch(postgres, rising) == [("a", 3)]
