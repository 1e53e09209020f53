"""UnitSessions: the ORM sessions that stand on the connection of a unit of work.

A session writes when it is asked to, or before it reads. What waits in one when somebody else
commits would be missing from the transaction, while its event is there. So each session that comes
to the connection is remembered, and written before the unit commits. One that was closed before it
had written, and a savepoint of it that was undone before the server had heard of it, show in
SQLAlchemy's events only.
"""

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, event, inspect
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session, SessionTransaction

_units: WeakKeyDictionary[Connection, "UnitSessions"] = WeakKeyDictionary()


class UnitSessions:
    """Those of one unit, while it is open. `said` are the messages that it has collected."""

    def __init__(self, connection: Connection, said: list[Any]) -> None:
        self.dropped = False  # something was let go of unwritten
        self._connection = connection
        self._said = said
        self._sessions: dict[int, Session] = {}  # not weakly: nobody else need keep them
        self._said_before: dict[int, int] = {}  # by savepoint

    def follow(self) -> None:
        _units[self._connection] = self

    def leave(self) -> None:
        _units.pop(self._connection, None)

    def flush(self) -> None:
        """Have all of them write what was added, changed and deleted in them."""
        for session in self._waiting():
            session.flush()

    def forget(self) -> None:
        """Take back what waits in them: it belongs to a part that was undone."""
        for session in self._waiting():
            for instance in [*session.new, *session.deleted]:
                session.expunge(instance)
            for instance in session.dirty:
                session.expire(instance)
        self.dropped = False

    def remember(self, session: Session) -> None:
        self._sessions[id(session)] = session

    def begin_nested(self, transaction: SessionTransaction) -> None:
        self._said_before[id(transaction)] = len(self._said)

    def undo_nested(self, transaction: SessionTransaction) -> None:
        before = self._said_before.pop(id(transaction), len(self._said))
        del self._said[before:]

    def _waiting(self) -> list[Session]:
        return [session for session in self._sessions.values() if self._waits_in(session)]

    def _waits_in(self, session: Session) -> bool:
        waiting = [*session.new, *session.deleted, *session.dirty]
        return any(_bind_of(session, each) is self._connection for each in waiting)


def _bind_of(session: Session, instance: object | None = None) -> object:
    """What it would be written to; None where the session does not know."""
    try:
        return session.get_bind(type(instance) if instance is not None else None)
    except UnboundExecutionError:
        return None


def _unit_of(session: Session, instance: object | None = None) -> UnitSessions | None:
    if not _units:
        return None
    bind = _bind_of(session, instance)
    return _units.get(bind) if isinstance(bind, Connection) else None


@event.listens_for(Session, "after_attach")
def _attached(session: Session, instance: object) -> None:
    if unit := _unit_of(session, instance):
        unit.remember(session)


@event.listens_for(Session, "after_begin")
def _began(session: Session, _: SessionTransaction, connection: Connection) -> None:
    if unit := _units.get(connection):
        unit.remember(session)


@event.listens_for(Session, "after_transaction_create")
def _created(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested and (unit := _unit_of(session)):
        unit.begin_nested(transaction)


@event.listens_for(Session, "after_soft_rollback")
def _undone(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested and (unit := _unit_of(session)):
        unit.undo_nested(transaction)


@event.listens_for(Session, "pending_to_transient")
def _let_go(session: Session, instance: object) -> None:
    """Not in a rollback, which undoes what was said as well."""
    if session.is_active and (unit := _unit_of(session, instance)):
        unit.dropped = True


@event.listens_for(Session, "persistent_to_detached")
def _detached(session: Session, instance: object) -> None:
    if inspect(instance).modified:
        _let_go(session, instance)
