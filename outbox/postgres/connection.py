"""Connection: the one place that opens sessions of PostgreSQL, each with the same settings.

The defaults of a database, a role, postgresql.conf, a URL or an environment variable change no byte
that we write or read, and no answer. All our settings are sent with the connection's first packet,
where they win over every default and cost nothing.

A pooler refuses or drops settings there, since it lends its sessions to other clients afterwards.
Behind a pooler each transaction begins with the settings, in the same round trip as its BEGIN, and
they end with the transaction. So they never reach another client's session. Whether the server took
the settings can be seen by the session's name: it is sent with them, and a server reports it
unasked.
"""

import os
import re
from asyncio import Lock
from collections.abc import Mapping
from typing import Any, Self

import psycopg
from psycopg import AsyncCursor, generators
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus, TransactionStatus

from outbox.environment.postgres_address import PostgresAddress
from outbox.secret import keep_secret, without_secrets
from outbox.settings import DEFAULT_SEARCH_PATH, Settings

Connection = psycopg.AsyncConnection[Any]

# The settings that our statements, and the driver that reads their answers, rely on. One is not
# among them, default_transaction_read_only: whoever sets it wants to keep writers out, and we wait.
FIXED: Mapping[str, str] = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "search_path": DEFAULT_SEARCH_PATH,
}
# A row that a policy hides would silently be passed over for good, so the platform's own sessions
# get an error instead. A service may use policies, and its sessions keep them.
NO_HIDDEN_ROWS: Mapping[str, str] = {"row_security": "off"}
# The settings that a server reports unasked, at the connection and after each change.
REPORTED = (
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "standard_conforming_strings",
)
# Words of the errors with which poolers refuse settings in the first packet.
REFUSALS = ("unsupported startup parameter", "command-line options")
# This sets something in our own session only: the one whose process the server named at the
# connection. Behind a pooler it is another one (see outbox.postgres.pooler).
SET_IN_OWN_SESSION = "SELECT set_config(%s, %s, false) WHERE pg_backend_pid() = %s"
CONNECT_SECONDS = 5
LONGEST_NAME_BYTES = 63
PREPARE_AFTER = 5  # executions of a statement
# Words of the errors that waiting does not repair.
LASTING_REFUSALS = (
    "SSL was required", "certificate verify failed", "root certificate file",
    "password authentication failed", "no password supplied", "no pg_hba.conf entry",
    "does not exist",
)  # fmt: skip
LEVEL = b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED"


class ConnectionRefused(psycopg.OperationalError):
    """The server refuses this client and will go on to, so waiting does not help.

    It is recognised by the words of PostgreSQL's message, because there is no SQLSTATE at that
    point. A server that answers in another language than English is treated as an outage.
    """


class Session(psycopg.AsyncConnection[Any]):
    """A connection whose settings hold, or are set again at the beginning of each transaction."""

    each_begin: tuple[bytes, ...] = ()  # sent after each BEGIN; empty where the settings hold

    def _exec_command(self, command: Any, *arguments: Any, **options: Any) -> PQGen[Any]:
        """Send the settings with each BEGIN, which psycopg sends through this method."""
        if not self.each_begin or command != self._get_tx_start_command():
            return (yield from super()._exec_command(command, *arguments, **options))
        if self._pipeline:
            yield from super()._exec_command(command, *arguments, **options)
            for statement in self.each_begin:
                yield from super()._exec_command(statement)
            return None
        self._check_connection_ok()
        self.pgconn.send_query(b"; ".join((command, *self.each_begin)))
        for result in (yield from generators.execute(self.pgconn)):
            if result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result)
        return None

    def set_in_each_transaction(self, settings: Mapping[str, str]) -> None:
        """From now on let each transaction begin with these settings."""
        levels = (LEVEL,) if self.isolation_level is None else ()
        local = (f"SET LOCAL {name} = {_quote(name, value)}" for name, value in settings.items())
        self.each_begin = (*levels, *(statement.encode() for statement in local))
        self.cursor_factory = ExplicitTransactionCursor
        self.turn = Lock()


class ExplicitTransactionCursor(AsyncCursor[Any]):
    """A cursor that gives each statement in autocommit a BEGIN, where settings go with that."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        session = self._conn
        assert isinstance(session, Session)  # noqa: S101 - narrows the type only
        in_one = session.info.transaction_status != TransactionStatus.IDLE
        if in_one or not session.autocommit or not session.each_begin:
            return await super().execute(query, params, **options)
        async with session.turn, session.transaction():
            return await super().execute(query, params, **options)


async def connect(settings: Settings, name: str = "relay", *, prepared: bool = True) -> Connection:
    """Open a connection in autocommit: each statement has its own snapshot, and none stays open.

    pg_stat_activity shows it as `aftercommit {name}`. A statement fails where a policy of a table
    would hide rows from it.
    """
    return await _connect_own(settings, name, NO_HIDDEN_ROWS, prepared=prepared)


async def connect_command(settings: Settings, name: str) -> Connection:
    """Open a connection in autocommit for a command of an operator.

    A commit waits for the disk, and for no standby: a standby that is away would keep the command,
    and its locks, for ever. If a failover loses what the command did, the operator can repeat it
    without harm. A statement fails where a policy would hide rows from it.
    """
    return await _connect_own(settings, name, {**NO_HIDDEN_ROWS, "synchronous_commit": "local"})


async def _connect_own(
    settings: Settings, name: str, fixed: Mapping[str, str], *, prepared: bool = True
) -> Connection:
    return await open_session(
        settings.postgres_address(),
        f"aftercommit {name}",
        fixed={**_build_fixed(settings), **fixed},
        autocommit=True,
        connect_timeout=settings.connect_timeout_seconds,
        prepare_threshold=PREPARE_AFTER if prepared else None,
    )


async def connect_service(
    settings: Settings, consumer: str, kind: type[Session] = Session
) -> Connection:
    """Open a connection of a service's pool, named by the address, PGAPPNAME or `consumer`."""
    address = settings.postgres_address()
    named = address.values.get("application_name") or os.environ.get("PGAPPNAME")
    return await open_session(
        address,
        named or f"aftercommit {consumer}",
        kind=kind,
        fixed=_build_fixed(settings),
        connect_timeout=settings.connect_timeout_seconds,
        prepare_threshold=PREPARE_AFTER if settings.prepared_statements else None,
    )


async def open_session(
    address: PostgresAddress,
    name: str,
    *,
    kind: type[Session] = Session,
    fixed: Mapping[str, str] = FIXED,
    connect_timeout: int = CONNECT_SECONDS,
    **options: Any,
) -> Session:
    """Open a session in which the settings `fixed` hold, with or without a pooler in between.

    It raises ConnectionRefused where waiting does not help, and another psycopg.Error otherwise.
    No error names a password.
    """
    server_name = _normalize_name(name)
    address.keep_secrets()
    common = {"client_encoding": FIXED["client_encoding"], "connect_timeout": connect_timeout}
    try:
        session = await _open_with(kind, address, server_name, fixed, common, options)
    except psycopg.Error as error:
        raise _describe(error) from None
    if session.each_begin:
        return session
    if session.pgconn.parameter_status(b"application_name") != server_name.encode():
        session.set_in_each_transaction(fixed)
    elif differing := _find_differing(session, fixed):
        await _set_again(session, differing, fixed)
    return session


async def _open_with(
    kind: type[Session],
    address: PostgresAddress,
    name: str,
    fixed: Mapping[str, str],
    common: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Session:
    """Connect with all settings in the first packet, or without where a pooler refuses them."""
    given = address.values.get("options") or os.environ.get("PGOPTIONS", "")
    # The last value of a setting counts. So an address may name another search path, and may change
    # nothing else of these.
    first = {key: value for key, value in fixed.items() if key == "search_path"}
    last = {key: value for key, value in fixed.items() if key not in first}
    last["application_name"] = name
    switches = f"{_write_switches(first)} {given} {_write_switches(last)}"
    # With an empty name nothing is sent outside of the options, not even PGAPPNAME.
    whole = address.conninfo(**common, options=switches, application_name="")
    try:
        return await kind.connect(whole, **options)
    except psycopg.OperationalError as error:
        if not any(refusal in str(error) for refusal in REFUSALS):
            raise
    bare = address.conninfo(**common, options=given, application_name=name)
    session = await kind.connect(bare, **options)
    session.set_in_each_transaction(fixed)
    return session


async def _set_again(session: Session, differing: list[str], fixed: Mapping[str, str]) -> None:
    """Set the settings that PGTZ and PGDATESTYLE have overridden.

    libpq sends these variables beside the options, and they win. In our own session the settings
    are set once more; behind a pooler they are set for each transaction.
    """
    process = session.info.backend_pid
    try:
        for name in differing:
            await session.execute(SET_IN_OWN_SESSION, [name, fixed[name], process])
        if not session.autocommit:
            await session.commit()
    except BaseException:
        await session.close()
        raise
    if _find_differing(session, fixed):
        session.set_in_each_transaction(fixed)


def _find_differing(session: Session, fixed: Mapping[str, str]) -> list[str]:
    """Return the settings that are reported differently; the others came with the name."""
    return [name for name in REPORTED if _read_reported(session, name) not in (None, fixed[name])]


def _read_reported(session: Session, name: str) -> str | None:
    value = session.pgconn.parameter_status(name.encode())
    return value.decode() if value is not None else None


def _build_fixed(settings: Settings) -> Mapping[str, str]:
    return {**FIXED, "search_path": settings.search_path}


def _write_switches(settings: Mapping[str, str]) -> str:
    """Write the settings for libpq's `options`; spaces and backslashes in a value are escaped."""
    return " ".join(
        f"-c {name}=" + re.sub(r"([\\\s])", r"\\\1", value) for name, value in settings.items()
    )


def _quote(name: str, value: str) -> str:
    """Write a value for SET; a search path is a list of names, so it gets no quotes."""
    return value if name == "search_path" else "'" + value.replace("'", "''") + "'"


def _normalize_name(name: str) -> str:
    """Return the name in the form in which the server stores it, so that it can be compared."""
    return "".join(each if " " <= each <= "~" else "?" for each in name)[:LONGEST_NAME_BYTES]


def is_refused(error: BaseException) -> bool:
    """Return whether the error is no outage, but an address or a right that must be changed."""
    return isinstance(error, ConnectionRefused) or isinstance(error.__cause__, ConnectionRefused)


def _describe(error: psycopg.Error) -> psycopg.Error:
    """Return the same error without secrets; ConnectionRefused where it will not pass.

    libpq knows which password it sent, even if that came from PGPASSWORD or from a file.
    """
    if error.pgconn is not None:
        keep_secret(error.pgconn.password.decode(errors="replace"))
    text = without_secrets(str(error))
    if any(words in text for words in LASTING_REFUSALS):
        return ConnectionRefused(text.splitlines()[0])
    return error if text == str(error) else type(error)(text)
