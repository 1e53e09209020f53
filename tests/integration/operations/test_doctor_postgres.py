"""Doctor finds what was planted in PostgreSQL for real, and by the right name.

P4, P6, P11, P12 and rule D9. A standby (P15) and a pooler (P24) are asked where those are: in
tests/faults.
"""

import asyncio
from collections.abc import AsyncIterator
from time import time

import psycopg
import pytest
from pydantic import SecretStr

from consumers.settings import Settings
from outbox.doctor import CheckResult, Severity, server
from outbox.doctor.examination import Question, examine_postgres
from outbox.doctor.transactions import OPEN
from stack.servers.postgres import ask
from tests.kit.proxies.postgres_proxy import PostgresProxy, address_of, url_through
from tests.kit.proxies.toxics import Timeout
from tests.kit.servers.cluster import Cluster, at, running_cluster
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

OK, WARNING, FAILURE = Severity.OK, Severity.WARNING, Severity.FAILURE
PUBLISH = "SELECT outbox.publish('a.b', 'k', 'a.b-happened.v1', '{}')"
TOMORROW = """DO $$ BEGIN
    EXECUTE 'DROP TABLE outbox.messages_'
            || to_char((now() AT TIME ZONE 'UTC')::date + 1, 'YYYYMMDD'); END $$"""
OLD = """
    INSERT INTO outbox.messages (position, id, aggregatetype, aggregateid, type, version, topic,
                                 created_at)
    VALUES (1, gen_random_uuid(), 'a.b', 'k', 'a.b-happened.v1', 1, 'a.b.events', '2000-01-01')"""
PARK = """INSERT INTO outbox.parked (aggregatetype, aggregateid, topic, position, reason)
          VALUES ('a.b', 'k', 'a.b.events', 1000, 'too-large')"""
ASYNCHRONOUS = "ALTER DATABASE {} SET synchronous_commit = off"
UNMIGRATED = "DELETE FROM outbox.migrations WHERE component = 'outbox' AND number = 4"
# What is planted in a database, and as how bad it is found in production.
PLANTED = {
    "postgres-synchronous-commit": (ASYNCHRONOUS, WARNING, "synchronous_commit = off"),
    "outbox-migrations": (UNMIGRATED, FAILURE, "outbox 0004"),
    "outbox-partitions": (TOMORROW, WARNING, "no partition"),
    "outbox-default-partition": (OLD, WARNING, "it holds rows"),
    "outbox-lineage": (
        "INSERT INTO outbox.database_identity (number, system_identifier, timeline)"
        " VALUES (9, '7', 1)",
        FAILURE,
        "the system identifier was 7",
    ),
    "outbox-backlog": (OLD, FAILURE, "1 messages wait"),
    "outbox-parked-keys": (PARK, WARNING, "1 keys wait for an operator"),
    "outbox-relay": ("DELETE FROM outbox.relay", WARNING, "no row 'main'"),
}


@pytest.mark.parametrize("name", PLANTED)
async def test_what_is_planted_in_a_database_is_found(
    settings: Settings, postgres: psycopg.AsyncConnection, name: str
) -> None:
    """P11 among them."""
    production = settings.model_copy(update={"profile": "production"})
    statement, severity, words = PLANTED[name]
    before = await found(production, name)
    assert [f.severity for f in before] == [WARNING if name == "outbox-relay" else OK]
    await postgres.execute(statement.format(postgres.info.dbname).encode())
    after = await found(production, name)
    assert {f.severity for f in after} == {severity}
    assert all(words in f.found for f in after), after


async def test_a_long_write_transaction_is_named_by_pid_age_and_program(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """P4: the finding names whose it is, and never shows its query."""
    settings = settings.model_copy(update={"doctor_transaction_seconds": 0.2})
    name, secret = "postgres-open-transactions", "'a secret'"
    connecting = psycopg.AsyncConnection.connect(
        settings.libpq_url(), application_name="month's end"
    )
    async with await connecting as writer:
        await writer.execute("SELECT 1")
        await until(lambda: has_been_open(postgres, writer.info.backend_pid, 0.3), 10)
        assert [f.severity for f in await found(settings, name)] == [OK], "it has not written yet"
        await writer.execute(f"SELECT outbox.publish('a', 'b', 'c.v1', to_jsonb({secret}::text))")
        (finding,) = await found(settings, name)
        assert finding.severity is WARNING
        assert finding.subject == f"pid {writer.info.backend_pid}"
        assert "open for " in finding.found
        assert f'"month\'s end" in {postgres.info.dbname}' in finding.found
        assert "secret" not in str(finding.plain())
        await writer.rollback()
    assert [f.severity for f in await found(settings, name)] == [OK]


async def test_an_orphan_prepared_transaction_is_listed_with_its_gid(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """P6: no session shows such a transaction."""
    settings = settings.model_copy(update={"doctor_transaction_seconds": 0.001})
    name, gid = "postgres-prepared-transactions", f"orphan of {postgres.info.dbname}"
    assert [f.severity for f in await found(settings, name)] == [OK]
    await postgres.execute("BEGIN")
    await postgres.execute(PUBLISH)
    await postgres.execute(f"PREPARE TRANSACTION '{gid}'".encode())
    try:
        (finding,) = await found(settings, name)
    finally:
        await postgres.execute(f"ROLLBACK PREPARED '{gid}'".encode())
    assert (finding.severity, finding.subject) == (WARNING, gid)
    assert f"by postgres in {postgres.info.dbname}" in finding.found


async def test_a_server_that_does_not_sync_is_a_failure_in_production(settings: Settings) -> None:
    """P12, and other settings of a server."""
    values = {
        "fsync": "off", "full_page_writes": "off", "autovacuum": "off", "synchronous_commit": "off",
        "max_connections": "12",
    }  # fmt: skip
    async with running_cluster(values) as cluster:
        own = at(settings, cluster.url)
        await ask(cluster.url, "SELECT pg_create_physical_replication_slot('gone', true)")
        await ask(cluster.url, "CREATE ROLE batch")
        await ask(cluster.url, "ALTER ROLE batch SET synchronous_commit = local")
        for profile, severity in (("development", WARNING), ("production", FAILURE)):
            findings = await look(own.model_copy(update={"profile": profile}))
            by_name = {f.check.name: f.severity for f in findings}
            assert by_name["postgres-fsync"] is severity
            assert by_name["postgres-full-page-writes"] is severity
            assert by_name["postgres-autovacuum"] is WARNING
            assert by_name["postgres-connections"] is WARNING
    slots = [f.subject for f in findings if f.check.name == "postgres-replication-slots"]
    lazy = [f for f in findings if f.check.name == "postgres-synchronous-commit"]
    assert slots == ["gone"]
    assert [(f.subject, f.found) for f in lazy] == [
        ("this session", "synchronous_commit = off"),
        ("role batch in every database", "synchronous_commit = local"),
    ]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """One role may log in and nothing else; another one has the rights of a relay."""
    async with running_cluster() as cluster:
        for statement in ROLES:
            await ask(cluster.url, statement)
        yield cluster


ROLES = (
    "CREATE ROLE bare LOGIN",
    "CREATE ROLE relay LOGIN",
    "GRANT USAGE, CREATE ON SCHEMA outbox TO relay",
    "GRANT SELECT ON ALL TABLES IN SCHEMA outbox TO relay",
    "GRANT UPDATE ON outbox.relay TO relay",
    "GRANT INSERT ON outbox.deliveries, outbox.topics, outbox.database_identity TO relay",
    "GRANT INSERT, UPDATE, DELETE ON outbox.parked, outbox.parked_messages TO relay",
    "CREATE ROLE owner",
    "GRANT pg_monitor, owner TO relay",
)


async def test_rights_that_a_relay_lacks_are_named_and_keep_no_other_check_from_its_answer(
    settings: Settings, cluster: Cluster
) -> None:
    """Doctor asks about the role with which it has connected."""
    relay, bare = (
        at(settings, cluster.url.replace("postgres@", f"{role}@")) for role in ("relay", "bare")
    )
    assert [f.severity for f in await found(relay, "outbox-rights")] == [OK]
    assert [f.severity for f in await found(relay, "postgres-open-transactions")] == [OK]
    (finding,) = await found(relay, "outbox-partition-rights")
    assert (finding.severity, "relay is no member" in finding.found) == (WARNING, True)
    await ask(cluster.url, "ALTER TABLE outbox.messages OWNER TO owner")
    assert [f.severity for f in await found(relay, "outbox-partition-rights")] == [OK]

    await ask(cluster.url, "REVOKE UPDATE ON outbox.relay FROM relay")
    (finding,) = await found(relay, "outbox-rights")
    assert (finding.subject, finding.found) == ("relay", "relay lacks UPDATE")

    closed = await look(bare)
    lacking = {f.subject for f in closed if f.check.name == "outbox-rights"}
    assert lacking >= {"schema outbox", "messages", "relay"}
    by_name = {f.check.name: f for f in closed}
    assert by_name["outbox-lineage"].severity is WARNING
    assert by_name["outbox-lineage"].found == ("not answered: permission denied for schema outbox")
    assert by_name["postgres-encoding"].severity is OK
    assert "pg_monitor" in by_name["postgres-open-transactions"].found


async def test_another_encoding_and_a_database_without_an_outbox_are_failures(
    settings: Settings, cluster: Cluster
) -> None:
    latin = "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    await ask(cluster.url, latin)
    findings = await look(at(settings, cluster.database("latin")))
    failed = {f.check.name: f.found for f in findings if f.severity is FAILURE}
    assert failed.keys() == {"postgres-encoding", "outbox-migrations"}
    assert "run `python -m outbox migrate`" in failed["outbox-migrations"]


@pytest.mark.parametrize(
    ("hours", "severity", "words"),
    [(0, OK, "clock is 0.0"), (1, WARNING, " s behind"), (-1, WARNING, " s ahead")],
)
async def test_a_clock_that_differs_from_the_database_s_is_told(
    settings: Settings,
    postgres: psycopg.AsyncConnection,
    hours: int,
    severity: Severity,
    words: str,
) -> None:
    """In this test it is our own clock that is wrong, by hours."""
    session = await server.read(postgres, lambda: time() + 3600 * hours)
    finding = server.judge_clock(session, settings)
    assert (finding.severity, words in finding.found) == (severity, True), finding


async def test_a_lock_in_the_way_of_one_question_delays_the_others_only_so_long(
    settings: Settings,
) -> None:
    settings = settings.model_copy(update={"doctor_timeout_seconds": 0.5})
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as other:
        await other.execute("LOCK TABLE outbox.parked IN ACCESS EXCLUSIVE MODE")
        by_name = {f.check.name: f for f in await look(settings)}
    assert by_name["outbox-parked-keys"].severity is WARNING
    assert by_name["outbox-parked-keys"].found == "not answered: no answer within 0.5 s"
    assert by_name["outbox-lineage"].severity is OK


async def test_a_postgresql_that_turns_deaf_ends_the_questions_and_not_doctor(
    settings: Settings,
) -> None:
    settings = settings.model_copy(update={"doctor_timeout_seconds": 0.5})
    async with PostgresProxy(address_of(settings.libpq_url())) as proxy:
        through = settings.model_copy(
            update={"postgres_url": SecretStr(url_through(proxy, settings.libpq_url()))}
        )

        async def turned_deaf(connection: psycopg.AsyncConnection) -> None:
            proxy.add(Timeout())
            await connection.execute("SELECT 1")

        connection = await psycopg.AsyncConnection.connect(through.libpq_url(), autocommit=True)
        try:
            question = Question((OPEN,), turned_deaf, lambda _, __: [])
            async with asyncio.timeout(9):  # left alone, psycopg would take ten
                (first,) = await question.ask(connection, through)
                findings = await examine_postgres(through)
        finally:
            await connection.close()
    assert (first.severity, "no answer within" in first.found) == (WARNING, True)
    assert [(f.check.name, f.severity) for f in findings.findings] == [
        ("postgres-reachable", FAILURE)
    ]


async def found(settings: Settings, name: str) -> list[CheckResult]:
    return [finding for finding in await look(settings) if finding.check.name == name]


async def look(settings: Settings) -> list[CheckResult]:
    """Only PostgreSQL is asked."""
    return (await examine_postgres(settings)).findings


async def has_been_open(connection: psycopg.AsyncConnection, pid: int, seconds: float) -> bool:
    rows = await connection.execute(
        "SELECT clock_timestamp() - xact_start > make_interval(secs => %s)"
        " FROM pg_stat_activity WHERE pid = %s",
        [seconds, pid],
    )
    row = await rows.fetchone()
    return bool(row and row[0])
