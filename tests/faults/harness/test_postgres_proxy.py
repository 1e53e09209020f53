"""The PostgreSQL proxy cuts at a COMMIT, with either outcome."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from consumers.settings import Settings
from outbox.errors import DependencyDown
from outbox.write.database import Database
from tests.kit.proxies.postgres_proxy import (
    Cut,
    Messages,
    PostgresProxy,
    address_of,
    url_through,
)
from tests.kit.verdicts.history import Happened, committed

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("delivered", [True, False])
INSERT = "INSERT INTO things VALUES (%s)"


@pytest.fixture
async def proxy(
    postgres_url: str, postgres: psycopg.AsyncConnection
) -> AsyncIterator[PostgresProxy]:
    await postgres.execute("CREATE TABLE things (n int)")
    async with PostgresProxy(address_of(postgres_url)) as proxy:
        yield proxy


async def things(connection: psycopg.AsyncConnection) -> list[int]:
    rows = await connection.execute("SELECT n FROM things ORDER BY n")
    return [n for (n,) in await rows.fetchall()]


@BOTH
async def test_the_commit_is_done_or_not_and_the_client_never_knows(
    proxy: PostgresProxy, postgres_url: str, postgres: psycopg.AsyncConnection, delivered: bool
) -> None:
    proxy.cut = cut = Cut(delivered=delivered, nth=3)
    connection = await psycopg.AsyncConnection.connect(url_through(proxy, postgres_url))
    for number in (1, 2):
        await connection.execute(INSERT, [number])
        await connection.commit()
    await connection.execute(INSERT, [3])
    assert not cut.happened.is_set()
    with pytest.raises(psycopg.OperationalError):
        await connection.commit()
    await connection.close()
    assert cut.happened.is_set()
    assert await things(postgres) == ([1, 2, 3] if delivered else [1, 2])


@BOTH
async def test_a_pipeline_that_ends_in_a_commit_is_cut_too(
    proxy: PostgresProxy, postgres_url: str, postgres: psycopg.AsyncConnection, delivered: bool
) -> None:
    proxy.cut = Cut(delivered=delivered)
    connection = await psycopg.AsyncConnection.connect(url_through(proxy, postgres_url))
    with pytest.raises(psycopg.OperationalError):
        async with connection.pipeline():
            await connection.execute(INSERT, [1])
            await connection.commit()
    await connection.close()
    assert await things(postgres) == ([1] if delivered else [])


@BOTH
async def test_a_unit_of_work_is_cut_at_its_commit(
    proxy: PostgresProxy, settings: Settings, delivered: bool
) -> None:
    url = settings.libpq_url()
    through = settings.model_copy(update={"postgres_url": SecretStr(url_through(proxy, url))})
    proxy.cut = cut = Cut(delivered=delivered)
    async with Database(through, "writer") as database:
        with pytest.raises((DependencyDown, DBAPIError)):
            async with database.unit_of_work("cut") as uow:
                uow.publish(Happened(thing="k"))
                await uow.commit()
    assert cut.happened.is_set()
    assert await committed(url) == ({("k", 1)} if delivered else set())


async def test_without_a_cut_all_commits_pass(
    proxy: PostgresProxy, postgres_url: str, postgres: psycopg.AsyncConnection
) -> None:
    url = url_through(proxy, postgres_url)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(INSERT, [1])
    assert await things(postgres) == [1]
    assert proxy.accepted == 1


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1_000])
def test_messages_may_come_in_any_pieces(size: int) -> None:
    start = b"\0\0\0\x0e\0\3\0\0user\0\0"
    messages = [start, b"Q\0\0\0\x0bCOMMIT\0", b"S\0\0\0\4", b"X\0\0\0\4"]
    stream = b"".join(messages)
    wire = Messages(started=False)
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert [message for piece in pieces for message in wire.feed(piece)] == messages


async def test_a_client_that_wants_to_encrypt_is_told(
    proxy: PostgresProxy, postgres_url: str
) -> None:
    url = f"postgresql://{proxy.address}/{postgres_url.rsplit('/', 1)[1]}?sslmode=require"
    with pytest.raises(ExceptionGroup) as raised:
        async with PostgresProxy(address_of(postgres_url)) as another:
            there = url.replace(proxy.address, another.address)
            with pytest.raises(psycopg.OperationalError):
                async with asyncio.timeout(20):
                    await psycopg.AsyncConnection.connect(there)
    assert "wants to encrypt" in repr(raised.value)
