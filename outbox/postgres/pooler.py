"""Pooler: what must not stand between a relay and PostgreSQL."""

from typing import Any

import psycopg

from outbox.errors import Halted

RULE = (
    "a connection pooler stands between the relay and PostgreSQL, and the relay needs a session of "
    "its own: give it the address of PostgreSQL itself"
)


async def require_direct(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raise Halted behind a pooler, in whatever mode; a plain TCP proxy passes.

    A pooler hands out other sessions from one statement to the next: what the relay sets for itself
    (its plans, `synchronous_commit = off`) would come out in the sessions of others.
    """
    if not await is_direct(connection):
        raise Halted(RULE)


async def is_direct(connection: psycopg.AsyncConnection[Any]) -> bool:
    """A pooler answers a client with a cancellation key of its own making, so the process id in it
    is not the backend's."""
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    return row is not None and row[0] == connection.info.backend_pid
