"""P24: behind a pooler services work, and leave nothing behind; a relay refuses."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from consumers.settings import Settings
from outbox.doctor import Severity
from outbox.doctor.examination import examine_postgres
from outbox.errors import Halted
from outbox.postgres.connection import connect
from outbox.postgres.pooler import require_direct
from outbox.relay.relay import Relay
from outbox.status import read_status
from outbox.write.database import Database
from tests.kit.load.roles import running
from tests.kit.proxies.forwarder import Forwarder
from tests.kit.servers import pgbouncer
from tests.kit.servers.cluster import at, cluster_folder
from tests.kit.servers.pgbouncer import PgBouncer
from tests.kit.verdicts.history import Happened
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio]

WITHIN_SECONDS = 30


@pytest.fixture(params=["transaction", "session"])
async def pooler(
    request: pytest.FixtureRequest, postgres_url: str, postgres: psycopg.AsyncConnection
) -> AsyncIterator[PgBouncer]:
    """Start a pooler before a database in which no session of ours finds its settings by itself."""
    if pgbouncer.BINARY is None:
        pytest.skip("pgbouncer is not installed")
    name = postgres.info.dbname
    await postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = local".encode())
    with cluster_folder() as folder:
        async with PgBouncer(folder, postgres_url, request.param) as pooler:
            yield pooler


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return one entry for each time that a relay has refused the way to its database."""
    refused: list[str] = []

    async def noted(connection: psycopg.AsyncConnection) -> None:
        try:
            await require_direct(connection)
        except Halted as error:
            refused.append(str(error))
            raise

    monkeypatch.setattr("outbox.relay.relay.require_direct", noted)
    return refused


async def test_a_relay_behind_a_pooler_names_the_rule_and_publishes_nothing(
    settings: Settings, pooler: PgBouncer, postgres: psycopg.AsyncConnection, refusals: list[str]
) -> None:
    async def refused_thrice() -> bool:
        return len(refusals) >= 3

    async with running(Relay(at(settings, pooler.url))):
        await until(refused_thrice, WITHIN_SECONDS, 0.02)
    assert "give it the address of PostgreSQL itself" in refusals[0]
    assert (await read_status(postgres)).relay_term == 0
    assert await settings_of_both_sessions(pooler) == {("local", "on")}


async def test_doctor_names_a_pooler_and_leaves_no_setting(
    settings: Settings, pooler: PgBouncer
) -> None:
    """P24: it is a failure for the relay's profile; every other check is answered through it."""
    findings = (await examine_postgres(at(settings, pooler.url))).findings
    failed = [f.check.name for f in findings if f.severity is Severity.FAILURE]
    assert failed == ["postgres-direct"]
    assert [f for f in findings if "not answered" in f.found] == []
    assert await settings_of_both_sessions(pooler) == {("local", "on")}


async def test_a_plain_tcp_proxy_is_no_pooler(settings: Settings) -> None:
    async with (
        Forwarder(settings.libpq_url()) as forwarder,
        await connect(at(settings, forwarder.url)) as connection,
    ):
        await require_direct(connection)


async def settings_of_both_sessions(pooler: PgBouncer) -> set[tuple[str, str]]:
    """Return what the next two borrowers of a session find, at the same time."""
    found = set()
    async with (
        await psycopg.AsyncConnection.connect(pooler.url, options="") as one,
        await psycopg.AsyncConnection.connect(pooler.url, options="") as two,
    ):
        for borrower in (one, two):
            shown = "SELECT current_setting('synchronous_commit'), current_setting('enable_sort')"
            found |= set(await (await borrower.execute(shown)).fetchall())
    return found


async def test_units_of_work_through_a_pooler_happen_once_each_and_leave_no_setting(
    settings: Settings, pooler: PgBouncer, postgres: psycopg.AsyncConnection
) -> None:
    """The pooler has two sessions for three services, and lends them by transaction.

    Statements are prepared where this PgBouncer supports that, from 1.21 on.
    """
    prepared = pgbouncer.version() >= (1, 21)
    pooled = at(settings, pooler.url).model_copy(
        update={"prepared_statements": prepared, "pool_connections": 1}
    )

    async def units(service: str) -> None:
        async with Database(pooled, service) as database:
            for number in range(40):
                async with database.unit_of_work("test") as uow:
                    uow.publish(Happened(thing=f"{service}-{number % 5}"))
                    await uow.commit()

    await asyncio.gather(units("one"), units("two"), units("three"))
    counted = await postgres.execute("SELECT count(*), sum(version) FROM outbox.messages")
    assert await counted.fetchone() == (120, 15 * 36)
    assert await settings_of_both_sessions(pooler) == {("local", "on")}
