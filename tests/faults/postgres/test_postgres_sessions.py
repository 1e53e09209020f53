"""What other programs do to the database meanwhile: P21, P22, P26."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from pydantic import SecretStr

from consumers.settings import Settings
from outbox.relay.relay import Relay
from outbox.write.database import Database
from tests.kit.load.length import seconds
from tests.kit.load.role import Role
from tests.kit.load.roles import running
from tests.kit.load.writer import Writer, ended, things
from tests.kit.servers.cluster import at, running_cluster
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

WITHIN_SECONDS = 60.0
KILL_SECONDS = seconds(6, 600)
ALTERATIONS = ("ADD COLUMN extra integer", "DROP COLUMN extra")
TERMINATE_ANY = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND backend_type = 'client backend' ORDER BY random() LIMIT 1
"""
Meddling = Callable[[psycopg.AsyncConnection, Writer], Awaitable[None]]


async def moved_on(writer: Writer, units: int) -> None:
    """Return once the writer has gone on; TimeoutError if it is stuck."""
    goal = writer.done + units

    async def there() -> bool:
        return writer.done >= goal

    await until(there, WITHIN_SECONDS, every_seconds=0.01)


async def alter(connection: psycopg.AsyncConnection, writer: Writer) -> None:
    """P22: change a table as a migration does, with a limit on how long it may block others."""
    await connection.execute("SET lock_timeout = '1s'")
    for alteration in 5 * ALTERATIONS:
        await connection.execute(f"ALTER TABLE outbox.messages {alteration}".encode())
        await moved_on(writer, 20)


async def terminate(connection: psycopg.AsyncConnection, writer: Writer) -> None:
    """P26: end one session after another, whatever program it belongs to."""
    rng = random.Random(26)
    async with asyncio.TaskGroup() as group:
        terminating = group.create_task(terminating_forever(connection, rng))
        await asyncio.sleep(KILL_SECONDS)
        terminating.cancel()
    await moved_on(writer, 1)


async def terminating_forever(connection: psycopg.AsyncConnection, rng: random.Random) -> None:
    while True:
        await connection.execute(TERMINATE_ANY)
        await asyncio.sleep(rng.uniform(0.0, 0.3))


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("meddle", [alter, terminate])
async def test_whatever_is_done_to_sessions_and_tables_each_change_is_said_once(
    settings: Settings, witness: Witness, postgres: psycopg.AsyncConnection, meddle: Meddling
) -> None:
    """P22, P26, I1-I5: every program reconnects or plans its statements anew, and goes on."""
    url = settings.libpq_url()
    async with Database(settings, "meddled") as database:
        writer = await Writer.prepared(database, url)
        async with running(Relay(settings)):
            writing = asyncio.create_task(writer.run())
            await moved_on(writer, 20)
            await meddle(postgres, writer)
            await moved_on(writer, 20)
            await ended(writing)
            verdict = await witness.saw_all()
    assert verdict.at_least_once, verdict
    assert sum((await things(url)).values()) == verdict.committed
    assert verdict.committed >= writer.done


RIGHTS = """
    CREATE ROLE relay LOGIN;
    GRANT USAGE ON SCHEMA outbox TO relay;
    GRANT SELECT ON ALL TABLES IN SCHEMA outbox TO relay;
    GRANT UPDATE ON outbox.relay TO relay;
    GRANT INSERT ON outbox.deliveries, outbox.topics, outbox.database_identity TO relay;
    GRANT INSERT, UPDATE, DELETE ON outbox.parked, outbox.parked_messages TO relay;
"""
# The relay owns nothing, so it cannot make it again, and must go on without.
NO_TOMORROW = """
    DO $$ BEGIN EXECUTE format('DROP TABLE outbox.%I',
        'messages_' || to_char((now() AT TIME ZONE 'UTC')::date + 1, 'YYYYMMDD')); END $$
"""


@pytest.mark.parametrize("right", ["UPDATE ON outbox.relay", "SELECT ON outbox.messages"])
async def test_a_relay_whose_rights_were_revoked_waits_quietly_and_goes_on(
    settings: Settings, right: str
) -> None:
    """P21: it logs that once a second at most, loses nothing, and needs no restart."""
    async with running_cluster() as cluster:
        own = at(settings, cluster.url)
        connecting = psycopg.AsyncConnection.connect(cluster.url, autocommit=True)
        async with await connecting as admin, Witness(own) as witness, Database(own, "w") as writes:
            writer = await Writer.prepared(writes, cluster.url)
            await admin.execute(RIGHTS)
            await admin.execute(NO_TOMORROW)
            as_relay = SecretStr(cluster.url.replace("postgres@", "relay@"))
            relay = Role("relay", own.model_copy(update={"postgres_url": as_relay}))
            async with relay:
                await relay.ready()
                writing = asyncio.create_task(writer.run())
                await moved_on(writer, 20)
                await admin.execute(f"REVOKE {right} FROM relay".encode())
                began = asyncio.get_running_loop().time()
                await until(lambda: said(relay), WITHIN_SECONDS)
                await moved_on(writer, 50)
                await asyncio.sleep(2)
                told = len(relay.events("relay interrupted"))
                assert told <= 1 + asyncio.get_running_loop().time() - began
                assert (await witness.saw_all(0.1)).lost > 0
                await admin.execute(f"GRANT {right} TO relay".encode())
                await ended(writing)
                assert (await witness.saw_all()).at_least_once


async def said(relay: Role) -> bool:
    return bool(relay.events("relay interrupted"))
