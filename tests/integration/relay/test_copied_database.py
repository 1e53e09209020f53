"""FC10: a copy made by CREATE DATABASE ... TEMPLATE publishes nothing until an operator agrees.

Its original goes on, whatever is done to the copy. An original does not halt because of a new name.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from consumers.settings import Settings
from outbox.cursor.database_identity import require_same_identity
from outbox.cursor.reconcile import Remedy, reconcile
from outbox.doctor import Severity
from outbox.doctor.examination import examine_postgres
from outbox.errors import Halted
from outbox.operations import Operation
from outbox.postgres.connection import connect
from outbox.relay.relay import Relay
from outbox.replay.replayer import Replayer
from outbox.status import read_status
from tests.conftest import Servers
from tests.integration.relay.test_database_identity import (
    TOPIC,
    publish,
    versions_by_key,
)
from tests.kit.load.relaying import relay_all
from tests.kit.load.roles import Collector, running
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60


@pytest.fixture
async def admin(servers: Servers) -> AsyncIterator[psycopg.AsyncConnection]:
    url = servers.postgres_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield connection


def name_of(settings: Settings) -> str:
    return str(make_url(settings.libpq_url()).database)


def at_database(settings: Settings, name: str) -> Settings:
    url = make_url(settings.libpq_url()).set(database=name)
    secret = SecretStr(url.render_as_string(hide_password=False))
    return settings.model_copy(update={"postgres_url": secret})


@asynccontextmanager
async def database(
    admin: psycopg.AsyncConnection, of: Settings, template: str
) -> AsyncIterator[Settings]:
    """Make another database, copied from `template`, in which nobody may have a session."""
    name = f"test_{secrets.token_hex(6)}"
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    try:
        yield at_database(of, name)
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def copied(admin: psycopg.AsyncConnection, of: Settings) -> AbstractAsyncContextManager[Settings]:
    return database(admin, of, name_of(of))


async def is_halted(settings: Settings) -> bool:
    async with await connect(settings) as connection:
        try:
            await require_same_identity(connection)
        except Halted as halted:
            assert "this is a copy" in str(halted)
            assert "reconcile" in str(halted)
            return True
        return False


async def publish_by_unit(settings: Settings, *keys: str) -> None:
    async with await connect(settings) as connection:
        await publish(connection, *keys)


async def publishing(settings: Settings) -> None:
    async with await connect(settings) as connection:
        await relay_all(settings, connection)


async def reconciled(settings: Settings) -> Remedy:
    operation = Operation("tester", "reconcile", "relay", "it is a copy")
    async with await connect(settings) as connection:
        return (await reconcile(connection, operation)).remedy


async def test_a_copy_publishes_nothing_until_reconcile_and_its_original_goes_on(
    settings: Settings, admin: psycopg.AsyncConnection
) -> None:
    """That holds for a copy of the copy, too."""
    await publish_by_unit(settings, "k")
    await publishing(settings)
    collector = Collector(settings, TOPIC)
    async with copied(admin, settings) as copy, running(collector):
        await publish_by_unit(copy, "of-the-copy")
        async with running(Relay(copy)):
            await publish_by_unit(settings, "k")
            await publishing(settings)
            await collector.collected(2)
            async with await connect(copy) as connection:

                async def looked() -> bool:
                    return (await read_status(connection)).halted is not None

                await until(looked, WITHIN_SECONDS, 0.02)
        assert await is_halted(copy)
        assert not await is_halted(settings)
        assert versions_by_key(collector.envelopes) == {"k": [1, 2]}
        (finding,) = [
            each
            for each in (await examine_postgres(copy)).findings
            if each.check.name == "outbox-lineage"
        ]
        assert finding.severity is Severity.FAILURE
        assert await reconciled(copy) is Remedy.FOLLOW
        await publishing(copy)
        await collector.collected(3)
        assert versions_by_key(collector.envelopes) == {"k": [1, 2], "of-the-copy": [1]}
        async with copied(admin, copy) as second:
            assert await is_halted(second)
        assert not await is_halted(copy)
    assert not await is_halted(settings)
    await publish_by_unit(settings, "k")
    await publishing(settings)


async def test_a_renamed_database_is_the_same(
    settings: Settings, admin: psycopg.AsyncConnection
) -> None:
    await publishing(settings)
    async with copied(admin, settings) as copy:
        await reconciled(copy)
        name = f"test_{secrets.token_hex(6)}"
        await admin.execute(f"ALTER DATABASE {name_of(copy)} RENAME TO {name}".encode())
        try:
            assert not await is_halted(at_database(copy, name))
        finally:
            await admin.execute(f"ALTER DATABASE {name} RENAME TO {name_of(copy)}".encode())


async def test_a_copy_that_takes_its_originals_name_halts(
    settings: Settings, admin: psycopg.AsyncConnection
) -> None:
    """The name proves nothing: the original may go on under another name."""
    own, aside = name_of(settings), f"test_{secrets.token_hex(6)}"
    await publishing(settings)
    async with copied(admin, settings) as copy:
        await admin.execute(f"ALTER DATABASE {own} RENAME TO {aside}".encode())
        await admin.execute(f"ALTER DATABASE {name_of(copy)} RENAME TO {own}".encode())
        try:
            assert await is_halted(settings)
            assert not await is_halted(at_database(settings, aside))
        finally:
            await admin.execute(f"ALTER DATABASE {own} RENAME TO {name_of(copy)}".encode())
            await admin.execute(f"ALTER DATABASE {aside} RENAME TO {own}".encode())


REPLAY = """
INSERT INTO outbox.replays (topics, first_position, last_position, position, messages_per_second,
                            selected, operator, reason)
SELECT ARRAY['test.note.events'], 0, max(position), 0, 1000, 1, 'tester', 'a test'
FROM outbox.messages RETURNING id
"""


async def test_a_replay_that_was_copied_with_its_database_says_nothing_again(
    settings: Settings, admin: psycopg.AsyncConnection
) -> None:
    await publish_by_unit(settings, "k")
    await publishing(settings)
    async with await connect(settings) as connection:
        row = await (await connection.execute(REPLAY)).fetchone()
    assert row is not None
    collector = Collector(settings, TOPIC)
    async with copied(admin, settings) as copy, running(collector):
        await collector.collected(1)
        copys = Replayer(copy, row[0])
        with pytest.raises(Halted, match="this is a copy"):
            await copys.run()
        await Replayer(settings, row[0]).run()
        await collector.collected(2)
    assert len(collector.envelopes) == 2
