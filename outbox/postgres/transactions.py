"""Planned transactions, which take one right plan, and bounded ones, which also end soon."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

# Each statement must see what was committed before it, whatever the role's default is. The
# statistics of the daily partitions may be stale, so only plans with indexes are right. All of
# these settings end with the transaction, so that nothing reaches another session of a pooler. A
# commit waits for the disk, and for no standby: while it waited for one that is away, its locks
# would keep every writer out. What such a transaction does can be done again. A standby gets it
# after what it is based on, since that comes earlier in the WAL.
PLANNED = """
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET LOCAL synchronous_commit = local;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL jit = off
"""
# Writers may wait for such a transaction. So the server ends it by itself when it does not get a
# lock, when a statement takes long, or when the client has stopped or is cut off.
LIMITS = """
SELECT set_config(name, %(limit)s, true)
FROM unnest(ARRAY['lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout'])
     AS name
"""


@asynccontextmanager
async def planned_transaction(
    connection: psycopg.AsyncConnection[Any],
) -> AsyncGenerator[None, None]:
    """Open a transaction, on a connection in autocommit, whose statements follow indexes."""
    async with connection.transaction():
        await connection.execute(PLANNED)
        yield


@asynccontextmanager
async def bounded_transaction(
    connection: psycopg.AsyncConnection[Any], milliseconds: int
) -> AsyncGenerator[None, None]:
    """Open a planned transaction in which every wait has a limit of so many milliseconds.

    The limit is for each wait for a lock (it raises LockNotAvailable), for each statement
    (QueryCanceled), and for each pause of the client between two statements. After such a pause
    the connection is lost (IdleInTransactionSessionTimeout).
    """
    async with planned_transaction(connection):
        await connection.execute(LIMITS, {"limit": f"{milliseconds}ms"})
        yield
