"""Units: what a writer does in one transaction, in six steps between which another writer can act.

Every unit takes its transaction id early, publishes events of a key of its own, publishes one of a
key that both writers share, and commits. The statements are the product's own.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psycopg

from outbox.postgres.pipeline import Request, Statement, execute_at_once
from outbox.write.publishing import build_publish_request
from outbox.write.unit_of_work import TAKE_RECEIPT
from tests.kit.verdicts.history import Happened

STEPS = 6

# `said` is how many events the unit publishes. undone() is a savepoint with an event that is rolled
# back by the server: after a ROLLBACK by the client, psycopg would prepare every statement anew.
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
    """The keys of one writer: its own, and the one that both share; new ones in every schedule."""

    own: str
    shared: str


@dataclass(frozen=True, slots=True)
class Unit:
    """Six steps, the last of which commits; `locks` is the one that locks the shared key's head.

    `own` and `shared` are how many events it publishes of its own key and of the shared one.
    """

    steps: tuple[Callable[[Connection, Keys], Awaitable[object]], ...]
    own: int
    shared: int = 1
    locks: int = STEPS - 1


async def begin(connection: Connection, _: Keys) -> None:
    await connection.execute(BEGIN, prepare=False)


async def begin_with_receipt(connection: Connection, keys: Keys) -> None:
    """Begin as a unit of work with a cause does: with its receipt."""
    async with connection.pipeline():
        await connection.execute("BEGIN")
        await connection.execute(TAKE_RECEIPT, ["units", keys.own, "digest"], prepare=True)


def change(own: int) -> Callable[[Connection, Keys], Awaitable[object]]:
    """Write the row that `own` events are about."""
    return lambda connection, keys: connection.execute(CHANGE, [keys.own, own], prepare=True)


async def write_in_savepoint(connection: Connection, keys: Keys) -> None:
    said = build_publish_request([Happened(thing=keys.own)], None)
    await execute_at_once(connection, [SAVEPOINT, said, RELEASE])


async def write_own(connection: Connection, keys: Keys) -> None:
    await execute_at_once(connection, [build_publish_request([Happened(thing=keys.own)], None)])


async def write_shared(connection: Connection, keys: Keys) -> None:
    await execute_at_once(connection, [build_publish_request([Happened(thing=keys.shared)], None)])


async def write_both(connection: Connection, keys: Keys) -> None:
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
SEVERAL = Unit(
    (begin_with_receipt, change(3), write_in_savepoint, write_own, write_both, commit), own=3
)
ONE = Unit(
    (begin_with_receipt, change(2), write_in_savepoint, write_own, write_shared, commit), own=2
)
SQL = Unit((begin, change(1), undo, publish_own, publish_shared, commit), own=1)

# It publishes the shared key once more while the other writer waits for that key's head.
TWICE = Unit(
    (begin_with_receipt, change(2), write_in_savepoint, write_shared, write_both, commit),
    own=2,
    shared=2,
    locks=STEPS - 2,
)
