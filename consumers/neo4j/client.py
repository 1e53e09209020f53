"""Neo4j's edge: a driver with bounded waits, its errors in our tree, a limit on every answer."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from neo4j import AsyncDriver, AsyncGraphDatabase, AsyncManagedTransaction
from neo4j.exceptions import (
    AuthError,
    ClientError,
    ConnectionPoolError,
    ConstraintError,
    CypherSyntaxError,
    Forbidden,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
    TransientError,
)

from outbox.errors import DependencyDown, MessageRejected, build_rejection
from outbox.secret import keep_secret

CONNECT_SECONDS = 5.0
RETRY_SECONDS = 15.0
ANSWER_SECONDS = 30.0

_DOWN = (
    ServiceUnavailable,
    SessionExpired,
    ConnectionPoolError,
    TransientError,  # outlived the driver's own retries
    AuthError,
    Forbidden,
    OSError,  # no descriptor or no memory is left, on this side
)
GONE = "Neo.ClientError.Statement.EntityNotFound"  # of a node that was there a moment ago
# Wrong for as long as nobody repairs the server or our account, or while it has no time, no memory
# or no right to write; nothing is wrong with the message, though Neo4j says that the client erred.
_DOWN_CODES = (
    "Neo.ClientError.Security",
    "Neo.ClientError.Database",
    "Neo.ClientError.Cluster",
    "Neo.ClientError.Routing",
    "Neo.ClientError.Transaction",  # timed out, terminated, stopped while it waited for a lock
    "Neo.ClientError.General.ForbiddenOnReadOnlyDatabase",
    "Neo.ClientError.General.TransactionMemoryLimit",
    "Neo.ClientError.General.TransactionOutOfMemoryError",
    "Neo.ClientError.General.UpgradeRequired",
    "Neo.ClientError.General.WriteOnReadOnlyAccessDatabase",
    GONE,
    "Neo.DatabaseError.General",
    "Neo.DatabaseError.Transaction",
)


def connect(
    url: str, user: str, password: str, *, retry_seconds: float = RETRY_SECONDS
) -> AsyncDriver:
    """A driver with bounded waits; the caller closes it. It connects when it is first used."""
    keep_secret(password)
    return AsyncGraphDatabase.driver(
        url,
        auth=(user, password),
        connection_timeout=CONNECT_SECONDS,
        connection_acquisition_timeout=2 * CONNECT_SECONDS,
        max_transaction_retry_time=retry_seconds,
        notifications_min_severity="OFF",
    )


@asynccontextmanager
async def require_answer(within_seconds: float) -> AsyncIterator[None]:
    """The driver's errors in our tree; DependencyDown where the block takes longer.

    The driver itself waits for an answer for ever: a server that hangs keeps its connections open.
    """
    with translate_errors():
        try:
            async with asyncio.timeout(within_seconds):
                yield
        except TimeoutError as error:  # it is an OSError, too, which would say less
            raise DependencyDown("neo4j", f"no answer within {within_seconds:g} s") from error


async def run(
    transaction: AsyncManagedTransaction, statement: str, parameters: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The rows; a pure function of its arguments: the driver may call it again."""
    result = await transaction.run(statement, parameters)
    return [record.data() async for record in result]


def is_race(error: ClientError) -> bool:
    """Whether another transaction came between: then the next attempt finds what it has left."""
    return isinstance(error, ConstraintError) or error.code == GONE


@contextmanager
def translate_errors() -> Iterator[None]:
    """The driver's errors in our tree, once; a surprise passes unchanged."""
    try:
        yield
    except _DOWN as error:
        raise DependencyDown("neo4j", error) from error
    except (OverflowError, ValueError) as error:  # the driver cannot even send it
        raise _refused("a value that cannot be stored") from error
    except Neo4jError as error:
        _raise_translated(error)


def _raise_translated(error: Neo4jError) -> None:
    code = error.code or ""
    if code.startswith(_DOWN_CODES):
        raise DependencyDown("neo4j", error) from error
    if isinstance(error, ClientError) and not isinstance(error, CypherSyntaxError):
        raise _refused(code) from error
    raise error


def _refused(what: str) -> MessageRejected:
    return build_rejection("refused-by-store", "body", f"must be a node that neo4j takes ({what})")
