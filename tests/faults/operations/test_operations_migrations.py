"""A migration is ended at any of its statements: O6.

A file and its row are one transaction, so the next run finds either both or neither.
"""

from collections.abc import Callable

import psycopg
import pytest

from outbox.errors import DependencyDown, translate_errors
from outbox.postgres.migrate import migrate, require_current
from services.migrations import all_migrations
from tests.kit.proxies.postgres_proxy import Cut, PostgresProxy, address_of, url_through

pytestmark = pytest.mark.anyio

# Ends the session at its n-th statement of the schema, whatever file it is in. A sequence counts
# on where its transaction is rolled back.
ENDING = """
    CREATE SCHEMA ending;
    CREATE SEQUENCE ending.statements;
    CREATE TABLE ending.at (number bigint);
    INSERT INTO ending.at VALUES (0);
    CREATE FUNCTION ending.count() RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('ending.statements') = (SELECT number FROM ending.at) THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
        END IF;
    END $$;
    CREATE FUNCTION ending.at_ddl() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM ending.count(); END $$;
    CREATE EVENT TRIGGER ending_at_ddl ON ddl_command_end EXECUTE FUNCTION ending.at_ddl();
"""
AT = """
    UPDATE ending.at SET number = %s;
    ALTER SEQUENCE ending.statements RESTART;
"""
STATE = """
    SELECT array_agg(DISTINCT to_regclass(format('%I.%I', schemaname, tablename))::text)
    FROM pg_tables WHERE schemaname IN ('outbox', 'catalog')
"""


async def tables(url: str) -> set[str]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        row = await (await connection.execute(STATE)).fetchone()
    assert row is not None
    return set(row[0] or ())


async def current(url: str) -> None:
    """Raise SchemaBehind if a migration is missing."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await require_current(connection, all_migrations())


async def test_ended_at_each_statement_in_turn_the_migrations_are_completed(
    empty_url: str, template: str, tell: Callable[[str], None]
) -> None:
    """O6: each run is ended one statement later than the one before, and the last one is whole.

    It starts from the first file that is not applied yet.
    """
    ended, done, statement = 0, 0, 1
    async with await psycopg.AsyncConnection.connect(empty_url, autocommit=True) as connection:
        await connection.execute(ENDING.encode())
        while await is_ended_at(connection, statement, empty_url):
            ended += 1
            before, done = done, await applied(connection)
            statement = statement + 1 if done == before else 1
        await connection.execute("DROP EVENT TRIGGER ending_at_ddl")
    tell(f"ended at each of {ended} statements")
    assert ended > len(all_migrations()), "there were fewer statements than files"
    await current(empty_url)
    assert await tables(empty_url) == await tables(template)
    assert await migrate(empty_url, all_migrations()) == []


async def is_ended_at(connection: psycopg.AsyncConnection, statement: int, url: str) -> bool:
    """Run the migrations, end them at this statement, and return whether there were so many."""
    await connection.execute("ALTER EVENT TRIGGER ending_at_ddl DISABLE")
    await connection.execute(AT.replace("%s", str(statement)).encode())
    await connection.execute("ALTER EVENT TRIGGER ending_at_ddl ENABLE")
    try:
        with translate_errors():
            await migrate(url, all_migrations())
    except DependencyDown:
        return True
    return False


async def applied(connection: psycopg.AsyncConnection) -> int:
    """Return how many files are applied; a run may have ended before there was a table of them."""
    there = await (await connection.execute("SELECT to_regclass('outbox.migrations')")).fetchone()
    if there == (None,):
        return 0
    row = await (await connection.execute("SELECT count(*) FROM outbox.migrations")).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("delivered", [True, False])
async def test_cut_off_at_each_commit_the_migrations_are_completed(
    empty_url: str, template: str, delivered: bool
) -> None:
    """O6: whether the server has received the COMMIT or not."""
    async with PostgresProxy(address_of(empty_url)) as proxy:
        through = url_through(proxy, empty_url)
        for number, _ in enumerate(all_migrations()):
            proxy.cut = Cut(delivered=delivered)
            with pytest.raises(DependencyDown), translate_errors():
                await migrate(through, all_migrations())
            proxy.cut = None
            if not delivered:
                await migrate(through, all_migrations()[: number + 1])
        if delivered:
            assert await migrate(through, all_migrations()) == []
    await current(empty_url)
    assert await tables(empty_url) == await tables(template)
