"""Migrations run once each, in order, under a lock; and readiness knows what is missing."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from outbox.errors import SchemaBehind
from outbox.postgres.migrate import (
    Migration,
    migrate,
    outbox_migrations,
    read_migrations,
    require_current,
)
from services.migrations import all_migrations

pytestmark = pytest.mark.anyio

PARTITIONS = """
    SELECT inhrelid::regclass::text FROM pg_inherits
    WHERE inhparent = 'outbox.messages'::regclass ORDER BY 1
"""
PUBLISH = "SELECT outbox.publish('test.thing', %s, 'test.done.v1', '{}')"


async def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await (await connection.execute(statement.encode())).fetchall()


async def require(url: str, migrations: list[Migration]) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await require_current(connection, migrations)


async def test_four_runs_at_once_apply_each_file_once(empty_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_url, all_migrations()) for _ in range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, len(all_migrations())]
    recorded = await rows(
        empty_url, "SELECT component, number, name, digest FROM outbox.migrations"
    )
    assert sorted(recorded) == sorted(
        (m.component, m.number, m.name, m.digest) for m in all_migrations()
    )
    await require(empty_url, all_migrations())


async def test_a_second_run_applies_nothing(postgres_url: str) -> None:
    assert await migrate(postgres_url, all_migrations()) == []


async def test_a_file_that_was_added_is_applied_alone(postgres_url: str) -> None:
    more = [*all_migrations(), Migration("catalog", 2, "more", "CREATE TABLE catalog.more (x int)")]
    assert await migrate(postgres_url, more) == more[-1:]
    assert await rows(postgres_url, "SELECT count(*) FROM catalog.more") == [(0,)]


async def test_a_changed_file_is_refused_and_nothing_runs(postgres_url: str) -> None:
    first, *others = all_migrations()
    changed = [replace(first, sql=first.sql + "\n"), *others]
    added = Migration("catalog", 2, "more", "CREATE TABLE catalog.more (x int)")
    with pytest.raises(ValueError, match="outbox 0001 changed after it ran"):
        await migrate(postgres_url, [*changed, added])
    with pytest.raises(ValueError, match="outbox 0001 changed after it ran"):
        await require(postgres_url, changed)
    assert await rows(postgres_url, "SELECT to_regclass('catalog.more')") == [(None,)]


async def test_a_file_that_fails_leaves_nothing_and_the_next_run_goes_on(empty_url: str) -> None:
    good = Migration("test", 1, "good", "CREATE TABLE good (x int)")
    bad = Migration("test", 2, "bad", "CREATE TABLE bad (x int); SELECT 1/0")
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate(empty_url, [good, bad])
    assert await rows(empty_url, "SELECT to_regclass('good')::text, to_regclass('bad')::text") == [
        ("good", None)
    ]
    mended = replace(bad, sql="CREATE TABLE bad (x int)")
    assert await migrate(empty_url, [good, mended]) == [mended]


async def test_an_empty_database_is_behind(empty_url: str) -> None:
    with pytest.raises(SchemaBehind, match="no outbox"):
        await require(empty_url, all_migrations())


async def test_a_missing_number_is_named(empty_url: str) -> None:
    await migrate(empty_url, outbox_migrations())
    await require(empty_url, outbox_migrations())
    with pytest.raises(SchemaBehind, match="catalog 0001"):
        await require(empty_url, all_migrations())


async def test_a_newer_database_is_not_behind(postgres_url: str) -> None:
    await require(postgres_url, outbox_migrations())


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_text("SELECT 1", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ["0001_a.sql", "0003_b.sql"],
        ["0002_a.sql"],
        ["0001_a.sql", "0001_b.sql"],
        ["1_a.sql"],
        ["0001.sql"],
        ["0001_A.sql"],
    ],
)
def test_files_are_numbered_from_one_without_a_gap(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ValueError, match="expected number"):
        read_migrations("test", write(tmp_path, *names))


def test_files_are_read_in_order(tmp_path: Path) -> None:
    found = read_migrations("test", write(tmp_path, "0002_b_c.sql", "0001_a.sql", "notes.txt"))
    assert [(m.number, m.name) for m in found] == [(1, "a"), (2, "b_c")]


def expected(days: int) -> list[tuple[str]]:
    today = datetime.now(UTC).date()
    dates = [today + timedelta(days=n) for n in range(days + 1)]
    return [(f"outbox.messages_{date:%Y%m%d}",) for date in dates] + [("outbox.messages_default",)]


async def test_there_are_partitions_for_today_and_three_days_more(postgres_url: str) -> None:
    assert await rows(postgres_url, PARTITIONS) == expected(3)


async def test_more_days_are_added_and_none_twice(postgres_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        for days, created in ((3, 0), (5, 2), (5, 0)):
            cursor = await connection.execute("SELECT outbox.create_partitions(%s)", [days])
            assert await cursor.fetchone() == (created,)
    assert await rows(postgres_url, PARTITIONS) == expected(5)


async def test_what_is_published_stands_in_its_days_partition(postgres_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        for key in "abc":
            await connection.execute(PUBLISH, [key])
    (today,), *_ = expected(3)
    found = await rows(
        postgres_url, "SELECT DISTINCT tableoid::regclass::text FROM outbox.messages"
    )
    assert found == [(today,)]
    assert await rows(postgres_url, "SELECT count(*) FROM outbox.messages_default") == [(0,)]


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "Pacific/Honolulu", "UTC"])
async def test_a_day_is_one_of_utc_wherever_the_session_is(postgres_url: str, zone: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await connection.execute("SELECT set_config('TimeZone', %s, false)", [zone])
        await connection.execute("SELECT outbox.create_partitions(5)")
        await connection.execute(PUBLISH, ["k"])
    assert await rows(postgres_url, PARTITIONS) == expected(5)
    assert await rows(postgres_url, "SELECT count(*) FROM outbox.messages_default") == [(0,)]


async def test_a_day_without_a_partition_is_kept_and_does_not_stop_later_days(
    postgres_url: str,
) -> None:
    """Nobody had made partitions for a while, so the rows went into the default partition."""
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO outbox.messages (position, id, aggregatetype, aggregateid, type, version,"
            " topic, created_at) VALUES (1, gen_random_uuid(), 'a', 'b', 'c', 1, 'd',"
            " now() + interval '4 days')"
        )
        await connection.execute("SELECT outbox.create_partitions(6)")
    assert await rows(postgres_url, "SELECT count(*) FROM outbox.messages") == [(1,)]
    later = f"outbox.messages_{datetime.now(UTC) + timedelta(days=6):%Y%m%d}"
    assert (later,) in await rows(postgres_url, PARTITIONS)
