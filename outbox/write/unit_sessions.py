"""UnitSessions: the ORM sessions that use the connection of a unit of work.

An ORM session writes when it is flushed, or before it reads. Objects that still wait in a session
when the unit commits would be missing from the transaction, while their event is there. So each
session that uses the connection is remembered, and flushed before the unit commits. Two cases can
be seen in SQLAlchemy's events only: a session that was closed before it had written, and a
session's savepoint that was undone before the server had heard of it.
"""

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, event, inspect
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session, SessionTransaction

_units: WeakKeyDictionary[Connection, "UnitSessions"] = WeakKeyDictionary()


class UnitSessions:
    """The sessions of one unit, while it is open.

    `messages` is the unit's own list of collected messages: an undone savepoint shortens it.
    """

    def __init__(self, connection: Connection, messages: list[Any]) -> None:
        self.dropped = False  # whether a session has dropped an object before writing it
        self._connection = connection
        self._messages = messages
        self._sessions: dict[int, Session] = {}  # strong references: nobody else needs to keep them
        self._messages_before: dict[int, int] = {}  # how many messages there were, by savepoint

    def register(self) -> None:
        """From now on SQLAlchemy's events on this connection are reported here."""
        _units[self._connection] = self

    def unregister(self) -> None:
        _units.pop(self._connection, None)

    def flush(self) -> None:
        """Have all sessions write what was added, changed and deleted in them."""
        for session in self._find_unwritten():
            session.flush()

    def drop_unwritten(self) -> None:
        """Drop what waits in the sessions: it belongs to a part that was undone."""
        for session in self._find_unwritten():
            for instance in [*session.new, *session.deleted]:
                session.expunge(instance)
            for instance in session.dirty:
                session.expire(instance)
        self.dropped = False

    def remember(self, session: Session) -> None:
        self._sessions[id(session)] = session

    def begin_nested(self, transaction: SessionTransaction) -> None:
        self._messages_before[id(transaction)] = len(self._messages)

    def undo_nested(self, transaction: SessionTransaction) -> None:
        before = self._messages_before.pop(id(transaction), len(self._messages))
        del self._messages[before:]

    def _find_unwritten(self) -> list[Session]:
        return [session for session in self._sessions.values() if self._has_unwritten(session)]

    def _has_unwritten(self, session: Session) -> bool:
        waiting = [*session.new, *session.deleted, *session.dirty]
        return any(_bind_of(session, each) is self._connection for each in waiting)


def _bind_of(session: Session, instance: object | None = None) -> object:
    """Return what the instance would be written to; None where the session does not know."""
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
def _on_attach(session: Session, instance: object) -> None:
    if unit := _unit_of(session, instance):
        unit.remember(session)


@event.listens_for(Session, "after_begin")
def _on_begin(session: Session, _: SessionTransaction, connection: Connection) -> None:
    if unit := _units.get(connection):
        unit.remember(session)


@event.listens_for(Session, "after_transaction_create")
def _on_savepoint(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested and (unit := _unit_of(session)):
        unit.begin_nested(transaction)


@event.listens_for(Session, "after_soft_rollback")
def _on_undone_savepoint(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested and (unit := _unit_of(session)):
        unit.undo_nested(transaction)


@event.listens_for(Session, "pending_to_transient")
def _on_dropped(session: Session, instance: object) -> None:
    """Note that an object was dropped, except in a rollback, which drops the messages, too."""
    if session.is_active and (unit := _unit_of(session, instance)):
        unit.dropped = True


@event.listens_for(Session, "persistent_to_detached")
def _on_detach(session: Session, instance: object) -> None:
    if inspect(instance).modified:
        _on_dropped(session, instance)
