"""Neo4j's client: a driver with bounded waits, its errors translated into ours, timed answers."""

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
    TransientError,  # the driver's own retries did not help
    AuthError,
    Forbidden,
    OSError,  # this process has no descriptor or no memory left
)
GONE = "Neo.ClientError.Statement.EntityNotFound"  # the node was there a moment ago
# The server or our account must be repaired, or the server has no time, no memory or no right to
# write at the moment. Nothing is wrong with the message, though Neo4j calls it the client's error.
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
    """A driver with bounded waits. It connects when it is first used, and the caller closes it.

    `retry_seconds` is how long it repeats a transaction that failed for a passing reason.
    """
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
    """Translate the driver's errors in the block; DependencyDown where it takes longer than this.

    The driver itself waits for an answer for ever: a server that hangs keeps its connections open.
    """
    with translate_errors():
        try:
            async with asyncio.timeout(within_seconds):
                yield
        except TimeoutError as error:  # an OSError, too, whose text would say less
            raise DependencyDown("neo4j", f"no answer within {within_seconds:g} s") from error


async def run(
    transaction: AsyncManagedTransaction, statement: str, parameters: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Run a statement and return its rows, one dict a row.

    The driver may call it again, so it does nothing else.
    """
    result = await transaction.run(statement, parameters)
    return [record.data() async for record in result]


def is_race(error: ClientError) -> bool:
    """Whether another transaction came between: the next attempt finds what it has left."""
    return isinstance(error, ConstraintError) or error.code == GONE


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise DependencyDown or MessageRejected for the driver's errors.

    An error that we did not expect passes unchanged.
    """
    try:
        yield
    except _DOWN as error:
        raise DependencyDown("neo4j", error) from error
    except (OverflowError, ValueError) as error:  # the driver cannot even send it
        raise _build_refusal("a value that cannot be stored") from error
    except Neo4jError as error:
        _raise_translated(error)


def _raise_translated(error: Neo4jError) -> None:
    code = error.code or ""
    if code.startswith(_DOWN_CODES):
        raise DependencyDown("neo4j", error) from error
    if isinstance(error, ClientError) and not isinstance(error, CypherSyntaxError):
        raise _build_refusal(code) from error
    raise error


def _build_refusal(what: str) -> MessageRejected:
    return build_rejection("refused-by-store", "body", f"must be a node that neo4j takes ({what})")
