"""The tree of our errors; each one says what happens next.

OutboxError
├── AlreadyHandled    acknowledge; it carries the reply of the first time
├── DependencyDown    wait with backoff; no attempt is spent
├── Contention        run the unit of work again: PostgreSQL ended it, and may let it pass then
├── LeaseLost         step down: another relay may be publishing
├── NotPossible       stop: the server refuses, and a repetition changes nothing
├── Halted            stand still until an operator has done what it names
├── Unreadable        read nothing of that partition for a while, and skip nothing of it
├── InvalidInput      end the command; the operator gives something else, or waits for the moment
├── StoreUnfit        stop until an operator has mended the store as the text says
├── SchemaBehind      a consumer stops, a relay waits, until an operator has run the migrations
└── SchemaForeign     change nothing: the schema `outbox` is another program's, or was altered

`schemas.MessageRejected` is not in the tree: it says that an event or a command is broken or
refused, and of nothing else. It becomes a dead letter, a rejection, or an HTTP answer of 4xx.
Any other exception is an unexpected error: a bounded number of retries, then a dead letter.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from outbox.secret import without_secrets
from outbox.sqlstate import Meaning, meaning_of
from schemas.errors import MessageRejected, Violation, build_rejection

__all__ = [
    "AlreadyHandled",
    "Contention",
    "DependencyDown",
    "Halted",
    "InvalidInput",
    "LeaseLost",
    "MessageRejected",
    "NotPossible",
    "OutboxError",
    "SchemaBehind",
    "SchemaForeign",
    "StoreUnfit",
    "Unreadable",
    "Violation",
    "build_rejection",
    "to_outbox_error",
    "translate_errors",
]


LOST = "8s2b"  # SQLAlchemy's code for a connection that was lost in the middle of a transaction


class OutboxError(Exception):
    """The root of the tree; it is never raised itself."""


class AlreadyHandled(OutboxError):
    """The consumer has a receipt for this message; `reply` is what it answered then."""

    def __init__(self, message_id: str, reply: dict[str, Any] | None) -> None:
        super().__init__(f"message {message_id} was handled before")
        self.reply = reply


class DependencyDown(OutboxError):
    """A server does not answer as it should; nothing is wrong with the message.

    `dependency` names the server. The text is one line without secrets.
    """

    def __init__(self, dependency: str, cause: BaseException | str) -> None:
        text = cause if isinstance(cause, str) else f"{type(cause).__name__}: {cause}"
        first = without_secrets(text).splitlines()[0][:300] if text else ""
        super().__init__(f"{dependency} is down ({first})")
        self.dependency = dependency


class Contention(OutboxError):
    """PostgreSQL ended the transaction; it is safe to run it again, from its beginning.

    The cause is a deadlock, a serialization failure, a lock timeout, or an altered table.
    """


class LeaseLost(OutboxError):
    """This relay's term has ended, or it cannot prove that it has not."""


class Halted(OutboxError):
    """To go on could lose or reorder messages; the text names what an operator must do."""


class NotPossible(OutboxError):
    """A server answers that it cannot do what was asked, or does not know the request at all."""


class Unreadable(OutboxError):
    """The broker's bytes from `offset` of `partition` on are not records, or inflate to too much.

    The text names topic, partition and offset, and the codec where the codec is at fault.
    """

    def __init__(self, partition: tuple[str, int], offset: int, cause: BaseException) -> None:
        name, number = partition
        super().__init__(f"{name}/{number} is unreadable from offset {offset} on ({cause})")
        self.partition = partition
        self.offset = offset


class InvalidInput(OutboxError):
    """What an operator asked for cannot be done as it was given, or not now; it is not tried again.

    `area` is the part of the program that refuses (`replay`, `range`), `field` what the operator
    gave, and `rule` what it must be. The command prints the text and ends with exit code 2. It says
    nothing about any message, so nothing becomes a dead letter by it.
    """

    def __init__(self, area: str, field: str, rule: str) -> None:
        super().__init__(f"{area}: {field}: {rule}")
        self.field = field
        self.rule = rule


class StoreUnfit(OutboxError):
    """A secondary store is not what the code needs; the text says what is wrong and what to do.

    A collection, a constraint or an alias is missing or has another shape, the server is too old,
    or no embedder knows the model. No message is at fault and waiting does not help: a role stops
    with exit code 3, and a command ends with exit code 2.
    """


class SchemaBehind(OutboxError):
    """The database lacks migrations that this code needs; the text names the command to run.

    A consumer stops with exit code 3; a relay and a replay log it, and ask again until it is
    mended; a command ends with exit code 2; an HTTP server is not ready.
    """


class SchemaForeign(OutboxError, ValueError):
    """The schema `outbox` holds something that our migrations did not make; the text says what."""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn errors of the PostgreSQL driver into this tree; all others pass unchanged."""
    try:
        yield
    except Exception as error:
        meant = to_outbox_error(error)
        if meant is None:
            raise
        raise meant from error


def to_outbox_error(error: BaseException) -> OutboxError | None:
    """Return DependencyDown or Contention where PostgreSQL caused this error, and None otherwise.

    PostgreSQL caused it if it is an error of the driver or of SQLAlchemy, if it was raised from one
    or while one was handled, or if it is a group that holds one. An error of our tree and a
    MessageRejected were decided on purpose already, so they give None.
    """
    if isinstance(error, OutboxError | MessageRejected):
        return None
    found = {_read_meaning(each): each for each in _walk_causes(error)}
    if cause := found.get(Meaning.DEPENDENCY):
        away = cause.dependency if isinstance(cause, DependencyDown) else "postgres"
        return DependencyDown(away, _find_driver_error(cause) or cause)
    if cause := found.get(Meaning.AGAIN):
        return Contention(str(_find_driver_error(cause) or cause).splitlines()[0])
    return None


def _walk_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, its causes and its parts; nothing behind an error that we decided on."""
    left, seen = [error], set[int]()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, OutboxError | MessageRejected):
            continue
        context = None if each.__suppress_context__ else each.__context__
        inside = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        left += [led for led in (each.__cause__, context, *inside) if led is not None]


def _read_meaning(error: BaseException) -> Meaning:
    """Return what this error alone is about, without its causes."""
    if isinstance(error, DependencyDown | PoolTimeout):
        return Meaning.DEPENDENCY
    if isinstance(error, Contention):
        return Meaning.AGAIN
    if isinstance(error, PendingRollbackError):  # SQLAlchemy raises it after a lost connection
        return Meaning.DEPENDENCY if error.code == LOST else Meaning.DEFECT
    cause = _find_driver_error(error)
    return meaning_of(cause) if cause else Meaning.DEFECT


def _find_driver_error(error: BaseException) -> psycopg.Error | None:
    """Return the driver's error: the one that SQLAlchemy has wrapped, or this one."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return cause if isinstance(cause, psycopg.Error) else None
