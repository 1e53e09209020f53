"""FA3: what PostgreSQL ends, by a limit or by an administrator, is a dependency failure.

A command waits for it and spends no attempt. Over HTTP it is 503, and the same key settles it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text

from consumers.commands import CommandReaction, dispatch_envelope
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.doctor import Severity
from outbox.doctor.examination import examine_postgres
from outbox.errors import Contention, DependencyDown, OutboxError
from outbox.relay.relay import Relay
from outbox.write.database import Database
from schemas.catalog import CatalogCommandSucceeded, CreateCatalog, Item, UpsertItems
from schemas.envelope import Envelope
from stack.demo.upstream import envelope_of
from tests.kit.load.roles import Collector, catalog_api, running, send
from tests.kit.operations.command_line import run
from tests.kit.operations.open_letters import list_dead_letters
from tests.kit.waiting import until
from web.app import application

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection

WITHIN_SECONDS = 60
CREATE = CreateCatalog(catalog_id="c", name="C")
HELD = "SELECT FROM catalog.items WHERE catalog_id = 'c' AND item_id = 'a' FOR UPDATE"
EVENTS = "SELECT count(*) FROM outbox.messages WHERE aggregatetype = 'catalog.item'"
WAITS = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"


def upsert(name: str) -> UpsertItems:
    return UpsertItems(catalog_id="c", items=(Item(item_id="a", name=name, text="t"),))


class Attempted(CommandReaction):
    """Counts what it is asked to apply."""

    attempts = 0

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        self.attempts += 1
        await super().apply(envelopes)


async def limit(connection: Connection, name: str, value: str) -> None:
    """Set it for the role, in this database; open sessions keep what they have."""
    of = f"ALTER ROLE CURRENT_USER IN DATABASE {connection.info.dbname}"
    await connection.execute(f"{of} SET {name} = '{value}'".encode())


@asynccontextmanager
async def holding(connection: Connection, statement: str = HELD) -> AsyncIterator[None]:
    """Lock its row in another transaction for the length of the block."""
    async with connection.transaction():
        await connection.execute(statement.encode())
        yield


async def count(connection: Connection, statement: str) -> int:
    row = await (await connection.execute(statement.encode())).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("name", ["statement_timeout", "lock_timeout", "transaction_timeout"])
async def test_a_command_waits_for_as_long_as_a_limit_cuts_it_short_and_is_done_then(
    settings: Settings, postgres: Connection, name: str
) -> None:
    """It is not dead-lettered, although it fails more often than an unexpected error may."""
    if name == "transaction_timeout" and postgres.info.server_version < 170_000:
        pytest.skip("PostgreSQL 17 and newer have it")
    quick = settings.model_copy(
        update={"backoff_first_seconds": 0.01, "backoff_longest_seconds": 0.05}
    )
    async with catalog_api(settings) as api:
        await dispatch_envelope(api.dispatcher, envelope_of(CREATE))
        await dispatch_envelope(api.dispatcher, envelope_of(upsert("first")))
    await limit(postgres, name, "300ms")
    replies = Collector(settings)
    async with catalog_api(quick) as api:
        commands = Attempted("catalog", api.dispatcher)
        async with running(Relay(settings), Runner(quick, commands), replies):
            await replies.collected(2)
            async with holding(postgres):
                await send(settings, [envelope_of(upsert("second"))])

                async def often() -> bool:
                    return commands.attempts > quick.unexpected_error_attempts + 1

                await until(often, WITHIN_SECONDS, 0.02)
                assert await list_dead_letters(settings, 10) == []
            await replies.collected(3, WITHIN_SECONDS)
    assert {reply.type for reply in replies.envelopes} == {CatalogCommandSucceeded.type}
    assert await list_dead_letters(settings, 10) == []
    assert await count(postgres, EVENTS) == 2


@pytest.mark.parametrize("name", ["statement_timeout", "lock_timeout"])
async def test_http_answers_503_and_200_to_the_same_key_once_the_lock_is_gone(
    settings: Settings, postgres: Connection, name: str
) -> None:
    async with catalog_api(settings) as api:
        await dispatch_envelope(api.dispatcher, envelope_of(CREATE))
        await dispatch_envelope(api.dispatcher, envelope_of(upsert("first")))
    await limit(postgres, name, "300ms")
    async with catalog_api(settings) as api:
        transport = httpx.ASGITransport(application(api), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            async with holding(postgres):
                refused = await put(client)
            done, again = await put(client), await put(client)
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) > 0
    assert (done.status_code, done.json()["result"]["upserted"]) == (200, 1)
    assert again.json() == done.json()
    assert await count(postgres, EVENTS) == 2


async def put(client: httpx.AsyncClient) -> httpx.Response:
    item = {"item_id": "a", "name": "second", "text": "t"}
    named = {"Idempotency-Key": "k"}
    return await client.put(
        "/catalogs/c/items", json={"items": [item]}, headers=named, timeout=WITHIN_SECONDS
    )


@pytest.mark.parametrize(
    ("how", "kind"),
    [("pg_cancel_backend", DependencyDown), ("pg_terminate_backend", DependencyDown)],
)
async def test_an_administrators_hand_is_an_outage_in_the_middle_of_a_savepoint_too(
    settings: Settings, postgres: Connection, how: str, kind: type[OutboxError]
) -> None:
    await postgres.execute("CREATE TABLE things (id text PRIMARY KEY)")
    await postgres.execute("INSERT INTO things VALUES ('a')")

    async def touch(database: Database) -> None:
        async with database.unit_of_work("touch") as uow:
            try:
                async with uow.savepoint():
                    await uow.connection.execute(text("DELETE FROM things WHERE id = 'a'"))
            except Exception:
                await uow.connection.execute(text("SELECT 1"))  # a careless handler goes on
                raise
            await uow.commit()

    async with Database(settings, "units") as database:
        async with holding(postgres, "SELECT FROM things FOR UPDATE"):
            touching = asyncio.create_task(touch(database))
            async with await psycopg.AsyncConnection.connect(
                settings.libpq_url(), autocommit=True
            ) as other:
                waiting: list[tuple[int]] = []

                async def waits() -> bool:
                    found = await other.execute(WAITS, [postgres.info.dbname])
                    waiting[:] = await found.fetchall()
                    return bool(waiting)

                await until(waits, WITHIN_SECONDS, 0.02)
                await other.execute(f"SELECT {how}(%s)".encode(), [waiting[0][0]])
                with pytest.raises(kind):
                    await touching
        await touch(database)
    assert await count(postgres, "SELECT count(*) FROM things") == 0


@pytest.mark.parametrize("name", ["idle_in_transaction_session_timeout", "transaction_timeout"])
async def test_a_unit_that_was_silent_for_too_long_is_an_outage_and_leaves_nothing(
    settings: Settings, postgres: Connection, name: str
) -> None:
    if name == "transaction_timeout" and postgres.info.server_version < 170_000:
        pytest.skip("PostgreSQL 17 and newer have it")
    await postgres.execute("CREATE TABLE things (id text PRIMARY KEY)")
    await limit(postgres, name, "300ms")
    pid = 0

    async def gone() -> bool:
        found = await postgres.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid])
        return await found.fetchone() is None

    async with Database(settings, "units") as database:
        with pytest.raises(DependencyDown):
            async with database.unit_of_work("silent") as uow:
                await uow.connection.execute(text("INSERT INTO things VALUES ('a')"))
                pid = (await uow.connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
                await until(gone, WITHIN_SECONDS, 0.02)
                await uow.commit()
        async with database.unit_of_work("quick") as uow:
            await uow.connection.execute(text("INSERT INTO things VALUES ('b')"))
            await uow.commit()
    assert await count(postgres, "SELECT count(*) FROM things") == 1


LASTING = [("default_transaction_read_only", "on", "off"), ("statement_timeout", "50ms", "0")]


@pytest.mark.parametrize(("name", "bad", "good"), LASTING)
async def test_a_limit_that_was_taken_back_does_not_last_in_the_pool(
    settings: Settings, postgres: Connection, name: str, bad: str, good: str
) -> None:
    """A session keeps the defaults it was opened with; after an outage it is not used again."""
    await postgres.execute("CREATE TABLE things (id text PRIMARY KEY)")
    one = settings.model_copy(update={"pool_connections": 1})

    async def work() -> None:
        async with database.unit_of_work("slow") as uow:
            await uow.connection.execute(text("SELECT pg_sleep(0.2)"))
            await uow.connection.execute(text("INSERT INTO things VALUES ('a')"))
            await uow.commit()

    await limit(postgres, name, bad)
    async with Database(one, "units") as database:
        with pytest.raises(DependencyDown):
            await work()
        await limit(postgres, name, good)
        await work()
    assert await count(postgres, "SELECT count(*) FROM things") == 1


async def test_a_lock_that_is_not_to_be_had_is_contention_and_runs_again_within_bounds(
    settings: Settings, postgres: Connection
) -> None:
    await postgres.execute("CREATE TABLE things (id text PRIMARY KEY)")
    await postgres.execute("INSERT INTO things VALUES ('a')")
    await limit(postgres, "lock_timeout", "10ms")
    attempts = 0

    async def touch() -> None:
        nonlocal attempts
        attempts += 1
        async with database.unit_of_work("touch") as uow:
            await uow.connection.execute(text("DELETE FROM things WHERE id = 'a'"))

    held = holding(postgres, "SELECT FROM things FOR UPDATE")
    async with Database(settings, "units") as database, held:
        with pytest.raises(Contention):
            await database.retry_on_contention(touch)
    assert attempts == settings.contention_attempts


async def test_a_role_without_a_connection_left_is_an_outage(
    settings: Settings, postgres: Connection
) -> None:
    role = f"r_{postgres.info.dbname}"
    await postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p' CONNECTION LIMIT 0".encode())
    try:
        url = make_url(settings.libpq_url()).set(username=role, password="p")  # noqa: S106 - a test's own
        own = SecretStr(url.render_as_string(hide_password=False))
        async with Database(settings.model_copy(update={"postgres_url": own}), "units") as database:
            with pytest.raises(DependencyDown, match="too many connections for role"):
                async with database.unit_of_work("none"):
                    pass
    finally:
        await postgres.execute(f"DROP ROLE {role}".encode())


async def test_a_table_without_a_partition_for_the_row_is_an_outage(
    settings: Settings, postgres: Connection
) -> None:
    """The code is that of a constraint, but nothing is wrong with the message."""
    await postgres.execute("DROP TABLE outbox.messages_default")
    days = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass"
    for (day,) in await (await postgres.execute(days, ["outbox.messages"])).fetchall():
        await postgres.execute(f"DROP TABLE {day}".encode())
    async with catalog_api(settings) as api:
        with pytest.raises(DependencyDown, match="no partition"):
            await dispatch_envelope(api.dispatcher, envelope_of(CREATE))


@pytest.mark.parametrize("name", ["statement_timeout", "lock_timeout"])
async def test_a_command_says_in_one_line_what_cut_it_short(
    settings: Settings, postgres: Connection, name: str
) -> None:
    await limit(postgres, name, "300ms")
    async with holding(postgres, "LOCK TABLE outbox.relay IN ACCESS EXCLUSIVE MODE"):
        status = await asyncio.to_thread(run, settings, "outbox", "status")
    assert status.returncode == 2
    assert "timeout" in status.stderr
    assert len(status.stderr.splitlines()) == 1


async def test_doctor_names_a_timeout_that_is_short(
    settings: Settings, postgres: Connection
) -> None:
    await limit(postgres, "statement_timeout", "4s")
    findings = (await examine_postgres(settings)).findings
    (finding,) = [each for each in findings if each.check.name == "postgres-timeouts"]
    assert (finding.severity, finding.subject) == (Severity.WARNING, "statement_timeout")
