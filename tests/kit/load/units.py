"""Units: what a writer does in one transaction, in six steps that another writer can come between.

Every unit takes its transaction id early, says events of a key of its own, says one of a key that
both writers share, and commits. The statements are the product's own.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psycopg

from outbox.postgres.pipeline import Request, Statement, execute_at_once
from outbox.write.publishing import build_publish_request
from outbox.write.unit_of_work import TAKE_RECEIPT
from tests.kit.verdicts.history import Happened

STEPS = 6

# `said` is how many events the change says; UNDONE is a savepoint with an event, rolled back. (By
# the server: after a ROLLBACK of the client's, psycopg would prepare every statement anew.)
SCHEMA = """
CREATE TABLE things (id text PRIMARY KEY, said integer NOT NULL);
CREATE FUNCTION undone(key text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outbox.publish('faults.thing', key, 'faults.happened.v1', '{}');
    RAISE EXCEPTION 'undone';
EXCEPTION WHEN raise_exception THEN
END $$;
"""
BEGIN = "BEGIN; SELECT pg_current_xact_id()"
CHANGE = "INSERT INTO things VALUES (%s, %s)"
UNDO = "SELECT undone(%s)"
SAVEPOINT = Request(Statement.of("SAVEPOINT part"))
RELEASE = Request(Statement.of("RELEASE part"))
PUBLISH = """SELECT outbox.publish('faults.thing', %s, 'faults.happened.v1',
                                   jsonb_build_object('thing', %s::text))"""

Connection = psycopg.AsyncConnection


@dataclass(frozen=True, slots=True)
class Keys:
    """Of one writer: its own, and the one that both share. Others in every schedule."""

    own: str
    shared: str


@dataclass(frozen=True, slots=True)
class Unit:
    """Six steps, the last of which commits; `locks` is the one that locks the shared key's head.

    It says so many events of its `own` key, and of the `shared` one.
    """

    steps: tuple[Callable[[Connection, Keys], Awaitable[object]], ...]
    own: int
    shared: int = 1
    locks: int = STEPS - 1


async def begin(connection: Connection, _: Keys) -> None:
    await connection.execute(BEGIN, prepare=False)


async def begin_with_receipt(connection: Connection, keys: Keys) -> None:
    """As a unit of work with a cause does."""
    async with connection.pipeline():
        await connection.execute("BEGIN")
        await connection.execute(TAKE_RECEIPT, ["units", keys.own, "digest"], prepare=True)


def change(own: int) -> Callable[[Connection, Keys], Awaitable[object]]:
    """Write the row that `own` events are about."""
    return lambda connection, keys: connection.execute(CHANGE, [keys.own, own], prepare=True)


async def say_in_savepoint(connection: Connection, keys: Keys) -> None:
    said = build_publish_request([Happened(thing=keys.own)], None)
    await execute_at_once(connection, [SAVEPOINT, said, RELEASE])


async def say_own(connection: Connection, keys: Keys) -> None:
    await execute_at_once(connection, [build_publish_request([Happened(thing=keys.own)], None)])


async def say_shared(connection: Connection, keys: Keys) -> None:
    await execute_at_once(connection, [build_publish_request([Happened(thing=keys.shared)], None)])


async def say_both(connection: Connection, keys: Keys) -> None:
    """Several messages in one statement, as most units of work end."""
    events = [Happened(thing=keys.own), Happened(thing=keys.shared)]
    await execute_at_once(connection, [build_publish_request(events, None)])


async def undo(connection: Connection, keys: Keys) -> None:
    await connection.execute(UNDO, [keys.own], prepare=True)


async def publish_own(connection: Connection, keys: Keys) -> None:
    await connection.execute(PUBLISH, [keys.own, keys.own], prepare=True)


async def publish_shared(connection: Connection, keys: Keys) -> None:
    await connection.execute(PUBLISH, [keys.shared, keys.shared], prepare=True)


async def commit(connection: Connection, _: Keys) -> None:
    await connection.execute("COMMIT")


# A unit of work whose last statement has several messages, or one; and a program in SQL.
SEVERAL = Unit((begin_with_receipt, change(3), say_in_savepoint, say_own, say_both, commit), own=3)
ONE = Unit((begin_with_receipt, change(2), say_in_savepoint, say_own, say_shared, commit), own=2)
SQL = Unit((begin, change(1), undo, publish_own, publish_shared, commit), own=1)

# It says the shared key again while the other writer waits for that key's head.
TWICE = Unit(
    (begin_with_receipt, change(2), say_in_savepoint, say_shared, say_both, commit),
    own=2,
    shared=2,
    locks=STEPS - 2,
)
