"""The one tree of errors; each says what happens next.

OutboxError
├── AlreadyHandled    acknowledge: the reply of the first time is attached
├── DependencyDown    wait with backoff; no attempt is spent
├── Contention        run the unit of work again: PostgreSQL chose it as the victim
├── LeaseLost         step down: another relay may be publishing
├── NotPossible       stop: the server refuses, and a repetition changes nothing
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
    "LeaseLost",
    "MessageRejected",
    "NotPossible",
    "OutboxError",
    "SchemaBehind",
    "SchemaForeign",
    "Unreadable",
    "Violation",
    "build_rejection",
    "to_outbox_error",
    "translate_errors",
]


LOST = "8s2b"  # SQLAlchemy's code of: the connection was lost in the middle of a transaction


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
        first = without_secrets(text).splitlines()[0][:300] if text else ""
        super().__init__(f"{dependency} is down ({first})")
        self.dependency = dependency


class Contention(OutboxError):
    """PostgreSQL ended the transaction; it is safe to run it again, from its beginning.

    By a deadlock, a serialization failure, a lock's timeout, or a change of a table's columns.
    """


class LeaseLost(OutboxError):
    """This relay's term has ended, or it cannot prove that it has not."""


class Halted(OutboxError):
    """To go on could lose or reorder messages; the text names what a person must do."""


class NotPossible(OutboxError):
    """A server answers that it cannot do what was asked, or has no such request at all."""


class Unreadable(OutboxError):
    """The broker's bytes from `offset` of `partition` on are no records, or more than we take.

    The text names topic, partition and offset, and the codec where it is about one.
    """

    def __init__(self, partition: tuple[str, int], offset: int, cause: BaseException) -> None:
        name, number = partition
        super().__init__(f"{name}/{number} is unreadable from offset {offset} on ({cause})")
        self.partition = partition
        self.offset = offset


class SchemaBehind(OutboxError):
    """The database lacks migrations that this code needs."""


class SchemaForeign(OutboxError, ValueError):
    """What is in the schema `outbox` is not what our migrations made; the text says what."""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn the driver's errors into this tree, once, at the edge; others pass unchanged."""
    try:
        yield
    except Exception as error:
        meant = to_outbox_error(error)
        if meant is None:
            raise
        raise meant from error


def to_outbox_error(error: BaseException) -> OutboxError | None:
    """DependencyDown or Contention, where PostgreSQL is behind this error; None where it is not.

    Behind it: it is the driver's or SQLAlchemy's, or was raised from one, or while one was handled,
    or is a group with one in it. What is of our tree already, or refuses a message, was decided.
    """
    if isinstance(error, OutboxError | MessageRejected):
        return None
    found = {_read_meaning(each): each for each in _behind(error)}
    if cause := found.get(Meaning.WORLD):
        away = cause.dependency if isinstance(cause, DependencyDown) else "postgres"
        return DependencyDown(away, _drivers(cause) or cause)
    if cause := found.get(Meaning.AGAIN):
        return Contention(str(_drivers(cause) or cause).splitlines()[0])
    return None


def _behind(error: BaseException) -> Iterator[BaseException]:
    """It, what led to it, and what is in it; not what is behind a decision of ours."""
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
    """Of this error alone."""
    if isinstance(error, DependencyDown | PoolTimeout):
        return Meaning.WORLD
    if isinstance(error, Contention):
        return Meaning.AGAIN
    if isinstance(error, PendingRollbackError):  # SQLAlchemy's word after a connection was lost
        return Meaning.WORLD if error.code == LOST else Meaning.DEFECT
    cause = _drivers(error)
    return meaning_of(cause) if cause else Meaning.DEFECT


def _drivers(error: BaseException) -> psycopg.Error | None:
    """The driver's error that SQLAlchemy has wrapped, or that this is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return cause if isinstance(cause, psycopg.Error) else None
