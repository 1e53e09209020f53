"""FD3: a schema named `outbox` that is not ours, or was altered, is reported in one line.

Nothing in it is changed, whatever command is run.
"""

import secrets

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from consumers.settings import Settings
from tests.kit.operations.command_line import run

FOREIGN = {
    "tables of its own": "CREATE SCHEMA outbox; CREATE TABLE outbox.letters (x int)",
    "messages of another product": "CREATE SCHEMA outbox; CREATE TABLE outbox.messages (body text)",
    "migrations of another product": (
        "CREATE SCHEMA outbox; CREATE TABLE outbox.migrations (version text);"
        "CREATE TABLE outbox.messages (body text)"
    ),
    "a function": "CREATE SCHEMA outbox; CREATE FUNCTION outbox.f() RETURNS int LANGUAGE sql"
    " AS 'SELECT 1'",
    "a type": "CREATE SCHEMA outbox; CREATE TYPE outbox.colour AS ENUM ('red')",
    "a hostile name": 'CREATE SCHEMA outbox; CREATE TABLE outbox."a\x1b[2J\nb" (x int)',
}
COMMANDS = [
    ("outbox", "migrate"),
    ("services", "migrate"),
    ("outbox", "status"),
    ("outbox", "parked", "list"),
    ("outbox", "replay", "list"),
    ("outbox", "partitions"),
    ("consumers", "dead-letters"),
]
CONTENTS = """
    SELECT n.nspname, c.relname, a.attname FROM pg_class c JOIN pg_namespace n
    ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1, 2, 3
"""


@pytest.fixture
def empty(empty_url: str, settings: Settings) -> Settings:
    """Return the settings of an empty database."""
    return settings.model_copy(update={"postgres_url": SecretStr(empty_url)})


def contents(settings: Settings) -> list[tuple[object, ...]]:
    with psycopg.connect(settings.libpq_url()) as connection:
        return connection.execute(CONTENTS).fetchall()


def execute(settings: Settings, statements: str) -> None:
    with psycopg.connect(settings.libpq_url()) as connection:
        connection.execute(statements.encode())


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_schema_is_named_and_left_as_it_is(empty: Settings, foreign: str) -> None:
    execute(empty, foreign)
    before = contents(empty)
    for command in COMMANDS if "messages" in foreign else COMMANDS[:3]:
        ran = run(empty, *command)
        assert (ran.returncode, ran.stdout) == (2, ""), command
        (line,) = ran.stderr.splitlines()
        assert line.isprintable()
        assert "the schema outbox of database" in line
        assert "is not Aftercommit's: it has" in line
        assert "POSTGRES_URL" in line
    assert contents(empty) == before


def test_a_database_without_an_outbox_is_told_so(empty: Settings) -> None:
    for command in COMMANDS[2:]:
        ran = run(empty, *command)
        expected = "the database has no outbox; run `python -m services migrate`\n"
        assert (ran.returncode, ran.stderr) == (2, expected)


def test_an_empty_schema_is_filled(empty: Settings) -> None:
    """An administrator has made the schema beforehand, with the right grants."""
    execute(empty, "CREATE SCHEMA outbox")
    assert run(empty, "outbox", "migrate").returncode == 0


def test_a_newer_schema_is_told_and_left_as_it_is(settings: Settings) -> None:
    """The older version keeps running while the newer one is rolled out."""
    execute(settings, "INSERT INTO outbox.migrations VALUES ('outbox', 99, 'new', 'x')")
    ran = run(settings, "outbox", "migrate")
    assert (ran.returncode, ran.stdout) == (0, "0 migrations applied\n")
    assert "newer than this version" in ran.stderr
    assert "outbox 0099" in ran.stderr
    assert run(settings, "outbox", "status").returncode == 0


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("DELETE FROM outbox.migrations WHERE component = 'outbox' AND number = 2", "0002 is not"),
        ("UPDATE outbox.migrations SET digest = 'x' WHERE number = 3", "0003 changed after it ran"),
        ("DELETE FROM outbox.migrations", "is not Aftercommit's"),
        ("ALTER TABLE outbox.migrations DROP COLUMN digest", "is not Aftercommit's"),
    ],
)
def test_a_schema_that_was_altered_by_hand_is_not_migrated(
    settings: Settings, change: str, line: str
) -> None:
    execute(settings, change)
    before = contents(settings)
    ran = run(settings, "services", "migrate")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1), ran.stderr
    assert line in ran.stderr
    assert contents(settings) == before


def test_a_table_that_is_gone_is_one_line(settings: Settings) -> None:
    execute(settings, "DROP TABLE outbox.dead_letters CASCADE")
    ran = run(settings, "consumers", "dead-letters")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
    assert 'relation "outbox.open_letters" does not exist' in ran.stderr


def test_a_database_that_is_not_there_is_one_line(settings: Settings) -> None:
    url = make_url(settings.libpq_url()).set(database="moon")
    moon = SecretStr(url.render_as_string(hide_password=False))
    ran = run(settings.model_copy(update={"postgres_url": moon}), "outbox", "status")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
    assert 'database "moon" does not exist' in ran.stderr


def test_rights_that_are_missing_are_one_line(settings: Settings) -> None:
    role = f"reader_{secrets.token_hex(4)}"
    execute(settings, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    url = make_url(settings.libpq_url()).set(username=role, password="x")  # noqa: S106 - a test's
    poor = SecretStr(url.render_as_string(hide_password=False))
    try:
        for command in (("outbox", "status"), ("outbox", "migrate"), ("consumers", "dead-letters")):
            ran = run(settings.model_copy(update={"postgres_url": poor}), *command)
            assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
            assert "PostgreSQL refused: permission denied" in ran.stderr
            assert "grant it to the user of POSTGRES_URL" in ran.stderr
    finally:
        execute(settings, f"DROP ROLE {role}")
