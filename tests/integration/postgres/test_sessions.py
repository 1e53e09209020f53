"""FA1, FC2, FC5: no default of a database, a role, an address or an environment changes a session.

Each source of a default is really set. The tests then check what a session of ours has, and what
the relay, the commands and the pool return.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import text

from consumers.settings import Settings
from outbox.doctor import Severity
from outbox.doctor.examination import examine_postgres
from outbox.postgres.connection import FIXED, Session, connect, connect_service
from outbox.postgres.migrate import migrate
from outbox.relay.relay import Relay
from outbox.retention.day_partitions import read_days
from outbox.write.database import Database
from services.migrations import all_migrations
from tests.kit.load.roles import Collector, running
from tests.kit.operations.command_line import run
from tests.kit.proxies.pooling import Answer, Pooling
from tests.kit.servers.cluster import at
from tests.kit.verdicts.history import TOPIC, Happened

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection

ODD = {
    "client_encoding": "LATIN1",
    "DateStyle": "German",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kolkata",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "search_path": "nowhere",
    "row_security": "on",
}
SHOW = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
WORDS = ["Zoë", "漢", "é\\'\"€", "ÿ"]


def switches(values: dict[str, str]) -> str:
    return " ".join(f"-c {name}={value}" for name, value in values.items())


async def plant_in_database(postgres: Connection) -> None:
    await planted(postgres, f"DATABASE {postgres.info.dbname}")


async def plant_in_role_of_database(postgres: Connection) -> None:
    """Set a default that wins over those of the database and of the role."""
    await planted(postgres, f"ROLE {postgres.info.user} IN DATABASE {postgres.info.dbname}")


async def planted(postgres: Connection, whose: str) -> None:
    for name, value in ODD.items():
        await postgres.execute(f"ALTER {whose} SET {name} = '{value}'".encode())


@pytest.fixture(params=[plant_in_database, plant_in_role_of_database])
async def odd(request: pytest.FixtureRequest, settings: Settings, postgres: Connection) -> Settings:
    """Give the settings of a database that gives odd defaults to every session."""
    await request.param(postgres)
    return settings


async def read_settings(session: Connection, names: list[str]) -> dict[str, str]:
    return dict(await (await session.execute(SHOW, [names])).fetchall())


async def require_fixed(settings: Settings) -> None:
    """Require our settings in each kind of session, outside of a transaction and inside."""
    names = list(FIXED)
    async with await connect(settings, "test") as session:
        assert await read_settings(session, names) == FIXED
        async with session.transaction():
            assert await read_settings(session, names) == FIXED
            assert await read_settings(session, ["transaction_isolation"]) == {
                "transaction_isolation": "read committed"
            }
        assert await read_settings(session, ["row_security"]) == {"row_security": "off"}
    async with await connect_service(settings, "test") as session:
        assert await read_settings(session, names) == FIXED
        assert await read_settings(session, ["row_security"]) != {"row_security": "off"}


async def test_a_default_of_a_database_or_a_role_is_in_no_session_of_ours(odd: Settings) -> None:
    """FA1."""
    await require_fixed(odd)


@pytest.mark.parametrize(
    "query",
    [
        "options=" + quote(switches({n: v for n, v in ODD.items() if n != "search_path"})),
        "client_encoding=LATIN1",
        "application_name=" + quote("ünsere Müllabfuhr " * 9),
        "options=" + quote("-c statement_timeout=77s -c datestyle=German"),
    ],
)
async def test_an_address_changes_no_session_of_ours(settings: Settings, query: str) -> None:
    """FA1: the other options of the address apply."""
    there = at(settings, f"{settings.libpq_url()}?{query}")
    await require_fixed(there)
    if "77s" in query:
        async with await connect_service(there, "test") as session:
            assert await read_settings(session, ["statement_timeout"]) == {
                "statement_timeout": "77s"
            }


@pytest.mark.parametrize(
    "variables",
    [
        {"PGOPTIONS": "-c datestyle=German -c bytea_output=escape -c statement_timeout=77s"},
        {"PGCLIENTENCODING": "LATIN1"},
        {"PGDATESTYLE": "German", "PGTZ": "Asia/Kolkata", "PGAPPNAME": "mine"},
    ],
    ids=lambda variables: "+".join(variables),
)
async def test_a_variable_of_libpq_changes_no_session_of_ours(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """FA1: PGTZ and PGDATESTYLE are sent beside the options, and would win."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    await require_fixed(settings)
    async with await connect_service(settings, "test") as session:
        there = await read_settings(session, ["statement_timeout", "application_name"])
    assert there["statement_timeout"] == ("77s" if "PGOPTIONS" in variables else "0")
    assert there["application_name"] == variables.get("PGAPPNAME", "aftercommit test")


@pytest.fixture(params=[Answer.REFUSE, Answer.DROP])
async def pooled(request: pytest.FixtureRequest, odd: Settings) -> AsyncIterator[Settings]:
    async with Pooling(odd.libpq_url(), request.param) as pooling:
        yield at(odd, pooling.url)


async def test_where_a_first_packet_may_say_nothing_each_transaction_does(
    pooled: Settings,
) -> None:
    """FA1: and the session keeps none of the settings for its next client."""
    await require_fixed(pooled)
    async with await connect_service(pooled, "test") as session:
        await read_settings(session, ["DateStyle"])
        await session.rollback()
        assert isinstance(session, Session)
        session.each_begin = ()
        left = await read_settings(
            session, ["DateStyle", "bytea_output", "default_transaction_isolation"]
        )
    assert left["DateStyle"].startswith("German")
    assert (left["bytea_output"], left["default_transaction_isolation"]) == (
        "escape", "serializable",
    )  # fmt: skip


async def test_units_and_reads_behind_a_pooler_keep_each_character(
    pooled: Settings, postgres: Connection
) -> None:
    """FA1: this goes through the pool of a service, with savepoints and many rows at once."""
    await publish_all(pooled)
    stored = await postgres.execute("SELECT aggregateid FROM outbox.messages")
    assert sorted(key for (key,) in await stored.fetchall()) == sorted(WORDS)


async def publish_all(settings: Settings) -> None:
    async with Database(settings, "test") as database:
        async with database.unit_of_work("test") as uow:
            await uow.connection.execute(
                text("CREATE TABLE public.kept (word text, at timestamptz DEFAULT now())")
            )
            await uow.connection.execute(
                text("INSERT INTO public.kept (word) VALUES (:word)"),
                [{"word": word} for word in WORDS],
            )
            async with uow.savepoint():
                for word in WORDS:
                    uow.publish(Happened(thing=word))
            await uow.commit()
        async with database.read() as connection:
            rows = (await connection.execute(text("SELECT word, at FROM public.kept"))).all()
    assert sorted(row.word for row in rows) == sorted(WORDS)
    assert all(abs(datetime.now(UTC) - row.at) < timedelta(hours=1) for row in rows)


async def test_a_default_changes_no_byte_that_is_published(
    odd: Settings, postgres: Connection
) -> None:
    """FA1: a unit of work or SQL publishes, and a consumer reads."""
    await publish_all(odd)
    own = {"n": WORDS}
    publish = "SELECT outbox.publish('faults.thing', 'sql', 'faults.happened.v1', %s::jsonb)"
    await postgres.execute(publish, [json.dumps(own, ensure_ascii=False)])
    collector = Collector(odd, TOPIC)
    async with running(Relay(odd), collector):
        envelopes = await collector.collected(len(WORDS) + 1, 60)
    payloads = {envelope.key: json.loads(envelope.payload or b"") for envelope in envelopes}
    assert payloads == {"sql": own, **{word: {"thing": word} for word in WORDS}}


COMMANDS: list[tuple[str, ...]] = [
    ("outbox", "status", "--json"),
    ("outbox", "partitions", "list", "--json"),
    ("outbox", "partitions", "prune", "--reason", "a test", "--json"),
    ("outbox", "replay", "list", "--json"),
    ("outbox", "parked", "list", "--json"),
    ("outbox", "migrate"),
    ("consumers", "dead-letters", "--json"),
    ("consumers", "rebuild", "status", "--json"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_a_default_changes_no_answer_of_a_command(
    settings: Settings, postgres: Connection, command: tuple[str, ...]
) -> None:
    """FC2: German dates with the abbreviations of zones, bytes in escapes, intervals of the
    standard."""
    await postgres.execute(PLANT.encode())
    usual = await asyncio.to_thread(run, settings, *command)
    await plant_in_database(postgres)
    odd = await asyncio.to_thread(run, settings, *command)
    assert "Traceback" not in odd.stderr, odd.stderr
    assert (odd.returncode, timeless(odd.stdout)) == (usual.returncode, timeless(usual.stdout))


PLANT = """
    SELECT outbox.publish('a.b', 'k', 'a.b-happened.v1', '{}');
    INSERT INTO outbox.dead_letters
        (consumer, topic, partition, "offset", key, value, headers, reason, error, attempts,
         status)
    VALUES ('c', 't', 0, 0, '\\x00ff5c', '\\xc3a9', '[]', 'schema', 'broken', 1, 'dead');
    INSERT INTO outbox.replays (first_position, last_position, position, messages_per_second,
                                selected, operator, reason, since)
    VALUES (1, 2, 0, 0.1, 1, 'ann', 'a test', '2026-02-03 04:05:06+00')
"""
AGES = re.compile(r"(age_seconds\"?: ?)[\d.e-]+")


def timeless(text: str) -> str:
    return AGES.sub(r"\1", text)


async def test_the_bounds_of_days_are_the_same_whoever_makes_them(postgres: Connection) -> None:
    """FC2: IST is written for Kolkata, and read as Israel before PostgreSQL 18."""
    await postgres.execute("SET DateStyle = 'SQL, DMY'")
    await postgres.execute("SET TimeZone = 'Asia/Kolkata'")
    await postgres.execute("SELECT outbox.create_partitions(9)")
    await postgres.execute("SET DateStyle = 'ISO, MDY'")
    await postgres.execute("SET TimeZone = 'UTC'")
    days = [day for day in await read_days(postgres) if day.first and day.after]
    assert len(days) == 10
    for day in days:
        assert day.first is not None
        assert day.after is not None
        assert f"messages_{day.first.astimezone(UTC):%Y%m%d}" == day.name
        assert (day.first.astimezone(UTC).hour, day.after - day.first) == (0, timedelta(days=1))


async def test_doctor_asks_the_session_and_names_defaults_that_reach_others(
    odd: Settings, postgres: Connection
) -> None:
    """FA1."""
    findings = (await examine_postgres(odd)).findings
    (session,) = [f for f in findings if f.check.name == "postgres-session"]
    assert session.severity is Severity.OK
    defaults = [f for f in findings if f.check.name == "postgres-session-defaults"]
    assert {f.severity for f in defaults} == {Severity.WARNING}
    assert {f.found for f in defaults} == {
        "client_encoding = LATIN1",
        "default_transaction_isolation = serializable",
        "standard_conforming_strings = off",
    }
    assert all(postgres.info.dbname in f.subject for f in defaults)
    assert len({(f.subject, f.found) for f in defaults}) == len(defaults)


async def test_a_policy_that_hides_messages_stops_the_relays_session(
    settings: Settings, postgres: Connection
) -> None:
    """It would pass over the rows that it does not see for good."""
    await postgres.execute(
        """
        DROP ROLE IF EXISTS seer;
        CREATE ROLE seer LOGIN;
        GRANT USAGE ON SCHEMA outbox TO seer;
        GRANT SELECT ON outbox.messages TO seer;
        ALTER TABLE outbox.messages ENABLE ROW LEVEL SECURITY;
        """
    )
    seer = settings.libpq_url().replace("//postgres@", "//seer@")
    try:
        async with await connect(at(settings, seer), "test") as session:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                await session.execute("SELECT FROM outbox.messages")
    finally:
        await postgres.execute("DROP OWNED BY seer; DROP ROLE seer")


@pytest.mark.parametrize("form", ["several", "keywords", "keywords of several", "driver"])
async def test_every_form_of_an_address_serves_services_and_commands(
    settings: Settings, postgres: Connection, form: str
) -> None:
    """FC5: the pool and all other sessions have one parser."""
    info = postgres.info
    name, user, port = info.dbname, info.user, info.port
    address = {
        "several": f"postgresql://{user}@127.0.0.1:1,127.0.0.1:{port}/{name}",
        "keywords": f"host=127.0.0.1 port={port} dbname={name} user={user}",
        "keywords of several": f"host=127.0.0.1,127.0.0.1 port=1,{port} dbname={name} user={user}",
        "driver": f"postgresql+psycopg://{user}@127.0.0.1:{port}/{name}",
    }[form]
    there = at(settings, address)
    async with Database(there, "test") as database, database.read() as connection:
        assert (await connection.execute(text("SELECT current_database()"))).scalar_one() == name
    async with await connect(there, "test") as session:
        assert session.info.dbname == name
    assert await migrate(there.libpq_url(), all_migrations()) == []


async def test_a_service_finds_its_tables_where_its_settings_say(
    settings: Settings, postgres: Connection
) -> None:
    """FA1: and not where a default of the role says."""
    await postgres.execute("CREATE SCHEMA shop; CREATE TABLE shop.things AS SELECT 1 AS here")
    await postgres.execute(
        f"ALTER DATABASE {postgres.info.dbname} SET search_path = pg_temp".encode()
    )
    shop = settings.model_copy(update={"search_path": 'shop, "$user"'})
    async with Database(shop, "test") as database, database.read() as connection:
        assert (await connection.execute(text("SELECT here FROM things"))).scalar_one() == 1
    with pytest.raises(ValueError, match="search_path"):
        Settings(search_path="a; DROP TABLE b")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
async def test_a_database_of_another_encoding_is_refused_in_one_line(
    settings: Settings, postgres: Connection, encoding: str
) -> None:
    """FD5: that happens before anything of ours is in it."""
    name = f"other_{token_hex(4)}"
    create = f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    await postgres.execute(create.encode())
    url = settings.libpq_url().replace(postgres.info.dbname, name)
    try:
        for package in ("outbox", "services"):
            result = await asyncio.to_thread(run, settings, package, "migrate", POSTGRES_URL=url)
            assert result.returncode == 2
            (line,) = result.stderr.splitlines()
            assert f"{name} is encoded in {encoding}, and the outbox needs UTF8" in line
            assert "ENCODING 'UTF8' TEMPLATE template0" in line
        async with await psycopg.AsyncConnection.connect(url) as there:
            found = await there.execute(
                "SELECT count(*) FROM pg_namespace WHERE nspname = 'outbox'"
            )
            assert await found.fetchone() == (0,)
    finally:
        await postgres.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


ONE_SHOT: list[tuple[str, ...]] = [
    ("outbox", "status"),
    ("outbox", "migrate"),
    ("outbox", "replay", "run", "1"),
    ("consumers", "dead-letters"),
    ("consumers", "drift", "check", "--projection", "neo4j"),
    ("consumers", "rebuild", "start", "--projection", "neo4j", "--reason", "a test"),
]


@pytest.mark.parametrize("command", ONE_SHOT, ids=" ".join)
async def test_a_server_that_does_not_take_this_client_ends_a_command_at_once(
    settings: Settings, command: tuple[str, ...]
) -> None:
    """FD3: waiting repairs neither TLS nor a password."""
    result = await asyncio.to_thread(run, settings, *command, PGSSLMODE="require")
    assert result.returncode in (2, 3), result
    assert "SSL was required" in result.stderr
    assert len([line for line in result.stderr.splitlines() if "{" not in line]) == 1, result.stderr


async def test_a_stack_that_needs_tls_of_its_own_server_fails_at_once() -> None:
    """FD3: it does not wait for its start limit of minutes, and prints one line."""
    result = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "stack", "up", "--json"],
        env={k: v for k, v in os.environ.items() if k != "POSTGRES_URL"} | {"PGSSLMODE": "require"},
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "SSL was required" in result.stderr
    assert "Traceback" not in result.stderr


async def test_a_broken_address_ends_every_part_with_one_line(settings: Settings) -> None:
    """FC4: it has exit code 2, and names the variable and the rule, but not the value."""
    broken = "postgresql://u:cAn4ry@x@h/d"
    for words in (
        ("outbox", "relay"),
        ("web", "serve"),
        ("consumers", "neo4j"),
        ("stack", "up"),
    ):
        result = await asyncio.to_thread(run, settings, *words, POSTGRES_URL=broken)
        assert result.returncode == 2, result
        (line,) = result.stderr.splitlines()
        assert line.lower().startswith("postgres_url: ")
        assert "must be postgresql://user@host" in line
        assert "cAn4ry" not in result.stdout + result.stderr


async def test_a_wrong_password_is_in_no_line_of_a_role(settings: Settings) -> None:
    """FC4: what a server or libpq says is passed on without the password."""
    async with Pooling(settings.libpq_url(), Answer.ECHO) as echoing:
        url = echoing.url.replace("postgres@", "postgres:cAn4ry%40%2F@")
        result = await asyncio.to_thread(run, settings, "outbox", "status", POSTGRES_URL=url)
        assert result.returncode == 2
        assert "cAn4ry" not in result.stdout + result.stderr
        doctor = await asyncio.to_thread(run, settings, "outbox", "doctor", POSTGRES_URL=url)
        assert "cAn4ry" not in doctor.stdout + doctor.stderr
