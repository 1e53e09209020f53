"""Brief: transactions that take one right plan, and stand in nobody's way for long."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

# Each statement must see what was committed before it, whatever the role's default is. Statistics
# of the days may be stale, and only indexes are right; all of it is forgotten with the transaction,
# so that nothing comes out in another session of a pooler. A commit waits for the disk, and for no
# standby: while it waited for one that is away, its locks would keep every writer out. What is done
# here may be done again, and a standby has it after what it follows from, for that is in the WAL
# before it.
PLANNED = """
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET LOCAL synchronous_commit = local;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL jit = off
"""
# Writers may be waiting meanwhile. So the server ends it by itself when a lock is not to be had, a
# statement takes long, or the client, stopped or cut off, says nothing more.
LIMITS = """
SELECT set_config(name, %(limit)s, true)
FROM unnest(ARRAY['lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout'])
     AS name
"""


@asynccontextmanager
async def planned_transaction(
    connection: psycopg.AsyncConnection[Any],
) -> AsyncGenerator[None, None]:
    """A transaction on a connection in autocommit whose statements follow indexes."""
    async with connection.transaction():
        await connection.execute(PLANNED)
        yield


@asynccontextmanager
async def bounded_transaction(
    connection: psycopg.AsyncConnection[Any], milliseconds: int
) -> AsyncGenerator[None, None]:
    """The same, and each wait, statement and silence in it is at most so long.

    LockNotAvailable or QueryCanceled where it is not enough; after a silence the connection is
    lost (IdleInTransactionSessionTimeout).
    """
    async with planned_transaction(connection):
        await connection.execute(LIMITS, {"limit": f"{milliseconds}ms"})
        yield
