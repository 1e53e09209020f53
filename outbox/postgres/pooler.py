"""Pooler: recognises a connection pooler, which must not stand between a relay and PostgreSQL."""

from typing import Any

import psycopg

from outbox.errors import Halted

RULE = (
    "a connection pooler stands between the relay and PostgreSQL, and the relay needs a session of "
    "its own: give it the address of PostgreSQL itself"
)


async def require_direct(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raise Halted behind a pooler, in whatever mode it is. A plain TCP proxy is allowed.

    A pooler may use another session for each statement. So what the relay sets for itself (its
    plans, `synchronous_commit = off`) would apply in the sessions of other clients.
    """
    if not await is_direct(connection):
        raise Halted(RULE)


async def is_direct(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Return whether this connection leads to a session of its own.

    A pooler gives its clients a cancellation key of its own, so the process id in that key is not
    the one of the backend.
    """
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    return row is not None and row[0] == connection.info.backend_pid
