"""The one tree of errors; each says what happens next.

OutboxError
├── AlreadyHandled    acknowledge: the reply of the first time is attached
├── DependencyDown    wait with backoff; no attempt is spent
├── Contention        run the unit of work again: PostgreSQL chose it as the victim
├── LeaseLost         step down: another relay may be publishing
├── Halted            stand still, until a person has done what it names
├── Unreadable        read nothing of that partition for a while, and skip nothing of it
├── SchemaBehind      stop, and run the migrations
└── SchemaForeign     change nothing: the schema `outbox` is another program's, or was altered

schemas.MessageRejected stands beside them: the message itself is broken or refused. Whatever else
is raised is a surprise: bounded retries, then a dead letter.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError

from schemas.errors import MessageRejected, Violation, rejected

__all__ = [
    "AlreadyHandled",
    "Contention",
    "DependencyDown",
    "Halted",
    "LeaseLost",
    "MessageRejected",
    "OutboxError",
    "SchemaBehind",
    "SchemaForeign",
    "Unreadable",
    "Violation",
    "rejected",
    "translated",
]


class OutboxError(Exception):
    """The root; never raised itself."""


class AlreadyHandled(OutboxError):
    """The consumer has a receipt for this message; `reply` is what it answered then."""

    def __init__(self, message_id: str, reply: dict[str, Any] | None) -> None:
        super().__init__(f"message {message_id} was handled before")
        self.reply = reply


class DependencyDown(OutboxError):
    """A server does not answer as it should; nothing is wrong with the message."""

    def __init__(self, dependency: str, cause: BaseException | str) -> None:
        text = cause if isinstance(cause, str) else f"{type(cause).__name__}: {cause}"
        super().__init__(f"{dependency} is down ({text.splitlines()[0][:300] if text else ''})")
        self.dependency = dependency


class Contention(OutboxError):
    """PostgreSQL ended the transaction; it is safe to run it again, from its beginning.

    By a deadlock, a serialization failure, a lock's timeout, or a change of a table's columns.
    """


class LeaseLost(OutboxError):
    """This relay's term has ended, or it cannot prove that it has not."""


class Halted(OutboxError):
    """To go on could lose or reorder messages; the text names what a person must do."""


class Unreadable(OutboxError):
    """The broker's bytes from `offset` of `partition` on are no records, or more than we take."""

    def __init__(self, partition: tuple[str, int], offset: int, cause: BaseException) -> None:
        name, number = partition
        super().__init__(f"{name}/{number} is unreadable from offset {offset} on ({cause})")
        self.partition = partition
        self.offset = offset


class SchemaBehind(OutboxError):
    """The database lacks migrations that this code needs."""


class SchemaForeign(OutboxError, ValueError):
    """What is in the schema `outbox` is not what our migrations made; the text says what."""


# A serialization failure, a deadlock, a lock's timeout, a session without its prepared statements.
RETRY_SQLSTATES = frozenset({"40001", "40P01", "55P03", "26000"})
# Connection failures, too few resources, an administrator's shutdown, a server still starting, a
# read-only server (a standby), a session that was silent inside its transaction for too long, and
# rights that a person took away and will give back.
DOWN_SQLSTATE_CLASSES = ("08", "53", "57P", "58", "25006", "25P03", "42501")


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into this tree, once, at the edge; others pass unchanged."""
    try:
        yield
    except DBAPIError as error:
        _raise_translated(error.orig if isinstance(error.orig, psycopg.Error) else None, error)
    except psycopg.Error as error:
        _raise_translated(error, error)


def _raise_translated(cause: psycopg.Error | None, error: Exception) -> None:
    state = cause.sqlstate if cause else None
    if state in RETRY_SQLSTATES or _plan_is_stale(cause):
        raise Contention(str(cause).splitlines()[0]) from error
    lost = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError) and state is None
    if lost or (state or "").startswith(DOWN_SQLSTATE_CLASSES):
        raise DependencyDown("postgres", cause or error) from error
    raise error


def _plan_is_stale(cause: psycopg.Error | None) -> bool:
    """Somebody altered a table that a prepared statement reads; its next use plans anew.

    There is no SQLSTATE for this, and its words are in the language of the server.
    """
    return cause is not None and cause.diag.source_function == "RevalidateCachedQuery"
