"""FA8: an id names one message. A second message with the same id is refused."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from consumers.settings import Settings
from outbox.retention.retention import Retention
from tests.kit.aged import all_published, fetch
from tests.kit.past_days import past_day
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]

GIVEN = """
SELECT outbox.publish('test.note', %(key)s, 'test.noted.v1', %(payload)s::jsonb, id => %(id)s)
"""
IDS = "SELECT aggregateid, id FROM outbox.messages ORDER BY position"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid = %s"
AGED = "UPDATE outbox.message_ids SET created_at = created_at - make_interval(days => %s)"


async def publish(connection: Connection, id_: UUID, key: str = "k", payload: str = "{}") -> None:
    await connection.execute(GIVEN, {"key": key, "payload": payload, "id": id_})


async def refused(connection: Connection, id_: UUID, **other: str) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        await publish(connection, id_, **other)
    assert caught.value.diag.message_primary == f"outbox.publish: id: a message has {id_} already"
    assert caught.value.diag.message_hint


@pytest.mark.parametrize("other", [{"payload": '{"a": 1}'}, {"key": "j"}, {}])
async def test_an_id_that_a_message_has_is_refused_whatever_it_says(
    postgres: Connection, other: dict[str, str]
) -> None:
    given = uuid4()
    await publish(postgres, given)
    await refused(postgres, given, **other)
    assert await fetch(postgres, IDS) == [("k", given)]
    assert await fetch(postgres, "SELECT version FROM outbox.streams") == [(1,)]


async def test_an_id_is_refused_twice_in_one_transaction(postgres: Connection) -> None:
    given = uuid4()
    with pytest.raises(psycopg.errors.UniqueViolation):
        async with postgres.transaction():
            await publish(postgres, given)
            await publish(postgres, given)
    assert await fetch(postgres, IDS) == []


async def test_an_id_that_was_rolled_back_may_be_given_again(postgres: Connection) -> None:
    given = uuid4()
    async with postgres.transaction(force_rollback=True):
        await publish(postgres, given)
    await publish(postgres, given)
    assert await fetch(postgres, IDS) == [("k", given)]


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("first_commits", [True, False])
async def test_the_second_of_two_transactions_waits_for_the_first(
    postgres: Connection, postgres_url: str, level: str, first_commits: bool
) -> None:
    """They have other keys, so that only the id makes one wait for the other."""
    given = uuid4()

    async def second(other: Connection) -> None:
        async with other.transaction():
            await other.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
            await other.execute("SELECT 1")
            await publish(other, given, "other")

    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as other:

        async def waits() -> bool:
            found = await watcher.execute(WAITING, [other.info.backend_pid])
            return (await found.fetchone()) == (1,)

        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as watcher:
            async with postgres.transaction(force_rollback=not first_commits):
                await publish(postgres, given)
                task = asyncio.create_task(second(other))
                await until(waits, 60)
            if first_commits:
                with pytest.raises(
                    (psycopg.errors.UniqueViolation, psycopg.errors.SerializationFailure)
                ):
                    await task
            else:
                await task
    assert await fetch(postgres, IDS) == [("k" if first_commits else "other", given)]


async def test_without_an_id_nothing_is_kept_of_it(postgres: Connection) -> None:
    for _ in range(3):
        await postgres.execute("SELECT outbox.publish('test.note', 'k', 'test.noted.v1', '{}')")
    ids = {id_ for _, id_ in await fetch(postgres, IDS)}
    assert len(ids) == 3
    assert await fetch(postgres, "SELECT count(*) FROM outbox.message_ids") == [(0,)]


async def test_an_id_is_remembered_as_long_as_the_days_of_messages(
    settings: Settings, postgres: Connection
) -> None:
    old, young = uuid4(), uuid4()
    await publish(postgres, old)
    await postgres.execute(AGED, [settings.retention_days + 2])
    await publish(postgres, young, "j")
    await postgres.execute(AGED, [settings.retention_days - 2])
    await past_day(postgres, settings.retention_days + 1)
    await all_published(postgres)
    few = settings.model_copy(update={"prune_chunk_messages": 1})
    assert (await Retention(postgres, few).prune()).ids == 1
    await refused(postgres, young)
    await publish(postgres, old)
