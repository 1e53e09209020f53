"""Connection: the one place that opens sessions of PostgreSQL, each with the same settings.

What a database, a role, postgresql.conf, a URL or an environment variable has as a default
changes no byte that we write or read, and no answer. All settings travel with the connection's
first packet, where they beat every default, and cost nothing.

A pooler refuses or drops them there, since its sessions are lent to others afterwards. Behind one
each transaction begins with them, in the same round trip as its BEGIN, and they end with it:
nothing comes out in another client's session. Whether the server took them shows by the session's
name, which travels with them, and which a server reports unasked.
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

# What our statements, and the driver that reads their answers, take for granted. Not among them is
# default_transaction_read_only: whoever sets it means to keep writers out, and we wait.
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
# Rows that a policy hides would be passed over for good, in silence: the platform's own sessions
# get an error instead. Services may live by policies, and keep theirs.
WHOLE: Mapping[str, str] = {"row_security": "off"}
# What a server says of itself unasked, at the connection and at each change.
REPORTED = (
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "standard_conforming_strings",
)
# How a pooler says no; others know no options of the command line at all.
REFUSALS = ("unsupported startup parameter", "command-line options")
# A session of its own is the one whose process the server named at the connection
# (outbox.postgres.pooler).
SET_IN_OUR_OWN = "SELECT set_config(%s, %s, false) WHERE pg_backend_pid() = %s"
CONNECT_SECONDS = 5
LONGEST_NAME = 63
PREPARED_FROM = 5  # executions of a statement on
# What time does not repair.
LASTING = (
    "SSL was required", "certificate verify failed", "root certificate file",
    "password authentication failed", "no password supplied", "no pg_hba.conf entry",
    "does not exist",
)  # fmt: skip
LEVEL = b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED"


class ConnectionRefused(psycopg.OperationalError):
    """The server does not take this client, and would not later: nobody has to wait for it.

    Known by PostgreSQL's own words, for it gives no SQLSTATE there. In another language than
    English it is an outage like any other, and is waited for.
    """


class Session(psycopg.AsyncConnection[Any]):
    """A connection whose settings hold, or are said at the begin of each transaction."""

    each_begin: tuple[bytes, ...] = ()  # statements; empty where the settings hold

    def _exec_command(self, command: Any, *arguments: Any, **options: Any) -> PQGen[Any]:
        """psycopg's way to send a BEGIN (among others): with it go the settings."""
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
        """From now on each transaction begins with these."""
        levels = (LEVEL,) if self.isolation_level is None else ()
        local = (f"SET LOCAL {name} = {_literal(name, value)}" for name, value in settings.items())
        self.each_begin = (*levels, *(statement.encode() for statement in local))
        self.cursor_factory = ExplicitTransactionCursor
        self.turn = Lock()


class ExplicitTransactionCursor(AsyncCursor[Any]):
    """A statement in autocommit is a transaction of its own: here it is so in so many words."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        session = self._conn
        assert isinstance(session, Session)  # noqa: S101 - narrows the type only
        in_one = session.info.transaction_status != TransactionStatus.IDLE
        if in_one or not session.autocommit or not session.each_begin:
            return await super().execute(query, params, **options)
        async with session.turn, session.transaction():
            return await super().execute(query, params, **options)


async def connect(settings: Settings, name: str = "relay", *, prepared: bool = True) -> Connection:
    """A connection in autocommit: each statement has its own snapshot, and none is kept open.

    `name` is what pg_stat_activity shows. A table with policies that would hide rows is an error.
    """
    return await _connect_own(settings, name, WHOLE, prepared=prepared)


async def connect_command(settings: Settings, name: str) -> Connection:
    """The same for what a person has asked for: a commit waits for the disk, and for no standby.

    One that is away would keep the command, and its locks, for ever. What a failover could lose of
    it is asked for once more, and does no harm then.
    """
    return await _connect_own(settings, name, {**WHOLE, "synchronous_commit": "local"})


async def _connect_own(
    settings: Settings, name: str, fixed: Mapping[str, str], *, prepared: bool = True
) -> Connection:
    return await open_session(
        settings.postgres_address(),
        f"aftercommit {name}",
        fixed={**_fixed(settings), **fixed},
        autocommit=True,
        connect_timeout=settings.connect_timeout_seconds,
        prepare_threshold=PREPARED_FROM if prepared else None,
    )


async def connect_service(
    settings: Settings, consumer: str, kind: type[Session] = Session
) -> Connection:
    """A connection of a service's pool; the address, or PGAPPNAME, may give it another name."""
    address = settings.postgres_address()
    named = address.values.get("application_name") or os.environ.get("PGAPPNAME")
    return await open_session(
        address,
        named or f"aftercommit {consumer}",
        kind=kind,
        fixed=_fixed(settings),
        connect_timeout=settings.connect_timeout_seconds,
        prepare_threshold=PREPARED_FROM if settings.prepared_statements else None,
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
    """A session in which `fixed` holds, whatever stands between us and the server."""
    shown = _shown(name)
    address.keep_secrets()
    told = {"client_encoding": FIXED["client_encoding"], "connect_timeout": connect_timeout}
    try:
        session = await _open_with(kind, address, shown, fixed, told, options)
    except psycopg.Error as error:
        raise _describe(error) from None
    if session.each_begin:
        return session
    if session.pgconn.parameter_status(b"application_name") != shown.encode():
        session.set_in_each_transaction(fixed)
    elif differing := _find_differing(session, fixed):
        await _insist(session, differing, fixed)
    return session


async def _open_with(
    kind: type[Session],
    address: PostgresAddress,
    name: str,
    fixed: Mapping[str, str],
    told: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Session:
    """With all settings in the first packet; without, where somebody in between takes none."""
    given = address.values.get("options") or os.environ.get("PGOPTIONS", "")
    # The last one counts: an address may name another search path, and nothing else of these.
    first = {key: value for key, value in fixed.items() if key == "search_path"}
    last = {key: value for key, value in fixed.items() if key not in first}
    last["application_name"] = name
    switches = f"{_switches(first)} {given} {_switches(last)}"
    # An empty name: nothing is sent outside of the options, not even PGAPPNAME.
    whole = address.conninfo(**told, options=switches, application_name="")
    try:
        return await kind.connect(whole, **options)
    except psycopg.OperationalError as error:
        if not any(refusal in str(error) for refusal in REFUSALS):
            raise
    bare = address.conninfo(**told, options=given, application_name=name)
    session = await kind.connect(bare, **options)
    session.set_in_each_transaction(fixed)
    return session


async def _insist(session: Session, differing: list[str], fixed: Mapping[str, str]) -> None:
    """PGTZ and PGDATESTYLE travel beside the options, and win over them. In a session of our own
    they are set once more; in anybody else's for each transaction."""
    process = session.info.backend_pid
    try:
        for name in differing:
            await session.execute(SET_IN_OUR_OWN, [name, fixed[name], process])
        if not session.autocommit:
            await session.commit()
    except BaseException:
        await session.close()
        raise
    if _find_differing(session, fixed):
        session.set_in_each_transaction(fixed)


def _find_differing(session: Session, fixed: Mapping[str, str]) -> list[str]:
    """What the server reports to be something else; what it does not report came with the name."""
    return [name for name in REPORTED if _read_reported(session, name) not in (None, fixed[name])]


def _read_reported(session: Session, name: str) -> str | None:
    value = session.pgconn.parameter_status(name.encode())
    return value.decode() if value is not None else None


def _fixed(settings: Settings) -> Mapping[str, str]:
    return {**FIXED, "search_path": settings.search_path}


def _switches(settings: Mapping[str, str]) -> str:
    """As libpq's `options` takes them: a space and a backslash in a value have one before them."""
    return " ".join(
        f"-c {name}=" + re.sub(r"([\\\s])", r"\\\1", value) for name, value in settings.items()
    )


def _literal(name: str, value: str) -> str:
    """A search path is a list of names and no text."""
    return value if name == "search_path" else "'" + value.replace("'", "''") + "'"


def _shown(name: str) -> str:
    """As the server keeps it, so that it can be recognised."""
    return "".join(each if " " <= each <= "~" else "?" for each in name)[:LONGEST_NAME]


def is_refused(error: BaseException) -> bool:
    """Whether an outage is none, but an address or a right that somebody must change."""
    return isinstance(error, ConnectionRefused) or isinstance(error.__cause__, ConnectionRefused)


def _describe(error: psycopg.Error) -> psycopg.Error:
    """The same error, in one line where it will not pass, and without what is secret.

    libpq knows which password it sent, also where it is from PGPASSWORD or from a file.
    """
    if error.pgconn is not None:
        keep_secret(error.pgconn.password.decode(errors="replace"))
    text = without_secrets(str(error))
    if any(words in text for words in LASTING):
        return ConnectionRefused(text.splitlines()[0])
    return error if text == str(error) else type(error)(text)
