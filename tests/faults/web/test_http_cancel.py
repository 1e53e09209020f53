"""A task is cancelled at any of its awaits: H5, G15.

Afterwards every connection of the pool is there and in no transaction, no session of the database
is in one, no task is left, and what was written is whole or not there.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.types import Message

from consumers.settings import Settings
from outbox.errors import AlreadyHandled
from outbox.write.database import Database
from schemas.envelope import Envelope
from tests.kit.load.writer import disagreeing, make_things
from tests.kit.verdicts.history import Happened
from tests.kit.waiting import until
from tests.kit.web.cancelling import Moment, cancelled_at
from tests.kit.web.served import CREATE, Served, created, served
from web.app import application

pytestmark = pytest.mark.anyio

POOL = 2
SESSION_ENDS_SECONDS = 60.0
AT_LEAST_AWAITS = 4
CHANGE = text("INSERT INTO things VALUES (:id, 1)")
IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in%'
"""

Work = Callable[[str], Awaitable[None]]


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Served]:
    async with served(settings, pool_connections=POOL) as service:
        yield service


@pytest.mark.parametrize("moment", Moment)
async def test_a_unit_of_work_that_is_cancelled_anywhere_leaves_nothing_behind(
    service: Served,
    postgres: psycopg.AsyncConnection,
    settings: Settings,
    moment: Moment,
    tell: Callable[[str], None],
) -> None:
    """H5: with a receipt, a savepoint, a row and an event."""
    await make_things(settings.libpq_url())

    async def work(thing: str) -> None:
        await change(service.api.database, thing)

    await work("before")
    done = await sweep(work, service, postgres, moment)
    tell(f"cancelled at each of {len(done) - 1} awaits")
    assert await disagreeing(settings.libpq_url()) == []
    for thing in done:
        try:
            await work(thing)
        except AlreadyHandled:
            continue
    row = await (await postgres.execute("SELECT count(*) FROM things")).fetchone()
    assert row == (len(done) + 1,), "a repetition settles each, once"


async def change(database: Database, thing: str) -> None:
    cause = Envelope(thing, "/test", "faults.do.v1", "k", b"{}")
    async with database.unit_of_work("change", cause=cause) as uow:
        async with uow.savepoint():
            await uow.connection.execute(CHANGE, {"id": thing})
        uow.publish(Happened(thing=thing))
        await uow.commit()


@pytest.mark.parametrize("moment", Moment)
async def test_a_request_that_is_cancelled_anywhere_leaves_nothing_behind(
    service: Served,
    postgres: psycopg.AsyncConnection,
    moment: Moment,
    tell: Callable[[str], None],
) -> None:
    """H5: the request is cancelled at each await between its first byte and its answer."""
    app = application(service.api)

    async def work(name: str) -> None:
        await post(app, name)

    await work("before")
    done = await sweep(work, service, postgres, moment)
    tell(f"cancelled at each of {len(done) - 1} awaits")
    for name in done:
        await work(name)
    assert await created(postgres) == dict.fromkeys((*done, "before"), (1, 1))


async def post(app: FastAPI, name: str) -> None:
    """Call the application as a server does; the body comes after a moment."""
    body = CREATE % name.encode()

    async def receive() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(_: Message) -> None:
        await asyncio.sleep(0)

    headers = [(b"idempotency-key", name.encode()), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/catalogs",
        "raw_path": b"/catalogs", "query_string": b"", "root_path": "", "scheme": "http",
        "headers": headers, "client": ("test", 1), "server": ("test", 80), "asgi": {},
    }  # fmt: skip
    await app(scope, receive, send)


async def in_no_transaction(postgres: psycopg.AsyncConnection) -> bool:
    """Whether no session is in a transaction; PostgreSQL notices a lost client a moment later."""
    return await (await postgres.execute(IN_TRANSACTION)).fetchone() == (0,)


async def sweep(
    work: Work, service: Served, postgres: psycopg.AsyncConnection, moment: Moment
) -> list[str]:
    """Cancel the work at its first await, its second, and so on; returns the name of each run."""
    names: list[str] = []
    for at in range(1, 1_000):
        tasks = asyncio.all_tasks()
        name = f"{moment.value}-{at}"
        names.append(name)
        reached = await cancelled_at(lambda name=name: work(name), at, moment)  # type: ignore[misc] # a default
        await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() - tasks if not task.done()]
        assert not left, (name, left)
        await service.clean(POOL)
        await until(partial(in_no_transaction, postgres), SESSION_ENDS_SECONDS)
        if not reached:
            break
    assert len(names) > AT_LEAST_AWAITS, "there was nothing to cancel"
    return names
