"""Pipeline: sends several statements to PostgreSQL in one round trip.

PostgreSQL skips all statements behind one that fails, so a COMMIT at the end is reached only where
all statements before it succeeded. psycopg's own pipeline does the same, but looks at the socket
before each statement and twice at its end. That is seven turns of the event loop for a statement
and a COMMIT, which cost as much as the round trip that it saves. So this module speaks to libpq,
through psycopg's own access to it. psycopg still keeps the list of the prepared statements of a
session, because after a rollback it has the session forget all of them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from select import POLLIN, poll
from typing import Any, Self

import psycopg
from psycopg import abc
from psycopg._preparing import Prepare
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.generators import send
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

Rows = list[tuple[Any, ...]]
FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.PIPELINE_ABORTED)


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with parameters $1, $2 and so on, and their names in that order."""

    sql: bytes
    names: tuple[str, ...]

    @classmethod
    def of(cls, text: str | bytes) -> Self:
        """Make one of SQL with parameters in the form `%(name)b`."""
        text = text.decode() if isinstance(text, bytes) else text
        names = tuple(dict.fromkeys(re.findall(r"%\((\w+)\)b", text)))
        numbered = re.sub(r"%\((\w+)\)b", lambda found: f"${names.index(found[1]) + 1}", text)
        return cls(numbered.encode(), names)


@dataclass(frozen=True, slots=True)
class Request:
    """A statement with its values by name. `prepare` is for statements that take time to plan."""

    statement: Statement
    values: Mapping[str, Any] = field(default_factory=dict)
    prepare: bool = True


COMMIT = Request(Statement.of("COMMIT"), prepare=False)


async def execute_at_once(
    driver: psycopg.AsyncConnection[Any], requests: Sequence[Request]
) -> list[Rows]:
    """Run the requests in the open transaction and return the rows of each.

    It raises the first error of a request. After an error of the connection it is not known whether
    a COMMIT was done. Statements are prepared once a session, unless the connection is set not to
    prepare any.
    """
    if driver.pgconn.transaction_status == TransactionStatus.IDLE and not driver.autocommit:
        await driver.execute("")  # makes psycopg send its BEGIN
    exchange = _Exchange(driver, requests)
    async with driver.lock:
        return await driver.wait(exchange.run())


class _Call:
    """A request in the form that libpq takes, and the reading of its result.

    psycopg identifies a prepared statement by `query` and `types`.
    """

    def __init__(self, transformer: abc.Transformer, request: Request) -> None:
        values = [request.values[name] for name in request.statement.names]
        self._transformer = transformer
        self._prepare = request.prepare
        self.query = request.statement.sql
        self.values = transformer.dump_sequence(values, [PyFormat.BINARY] * len(values))
        self.types, self.formats = transformer.types or (), transformer.formats
        self.state, self.name, self.is_new = Prepare.NO, b"", False

    def look_up(self, known: Any) -> None:
        """Look it up in psycopg's list of prepared statements, and add it where it is missing."""
        if self._prepare:
            self.state, self.name = known.get(self, True)
            self.is_new = known.maybe_add_to_cache(self, self.state, self.name) is not None

    def send(self, connection: PGconn) -> None:
        if self.state is Prepare.NO:
            connection.send_query_params(
                self.query, self.values, self.types, self.formats, Format.BINARY
            )
        else:
            connection.send_query_prepared(self.name, self.values, self.formats, Format.BINARY)

    def rows(self, result: PGresult) -> Rows:
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)


class _Exchange:
    """One round trip: all requests are sent together, and all results are read together."""

    def __init__(self, driver: psycopg.AsyncConnection[Any], requests: Sequence[Request]) -> None:
        self._connection: PGconn = driver.pgconn
        self._known = driver._prepared
        transformer = Transformer(driver)  # one for all calls: it has the values of the last one
        self._calls = [_Call(transformer, request) for request in requests]
        for call in self._calls:  # only after all values could be converted
            call.look_up(self._known)
        self._new = {call.name: call for call in self._calls if call.state is Prepare.SHOULD}

    def run(self) -> PQGen[list[Rows]]:
        """Run it, by `AsyncConnection.wait`, which lets it end even after a cancellation."""
        self._connection.enter_pipeline_mode()
        try:
            results = yield from self._send_and_read()
        except BaseException:
            self._connection.finish()  # nobody can tell where the exchange stands
            raise
        self._connection.exit_pipeline_mode()
        answers = results[len(self._new) :]
        self._report_prepared(answers)
        for result in results:
            if result.status in FAILED:
                raise psycopg.errors.error_from_result(result)
        return [call.rows(result) for call, result in zip(self._calls, answers, strict=True)]

    def _send_and_read(self) -> PQGen[list[PGresult]]:
        """Return the results of the statements that had to be prepared, then those of the calls."""
        for call in self._new.values():
            self._connection.send_prepare(call.name, call.query, call.types)
        for call in self._calls:
            call.send(self._connection)
        self._connection.pipeline_sync()
        yield from send(self._connection)
        return (yield from _read_results(self._connection))

    def _report_prepared(self, answers: Sequence[PGresult]) -> None:
        """Tell psycopg the results; a statement that failed is prepared anew the next time."""
        for call, result in zip(self._calls, answers, strict=True):
            if call.is_new or result.status in FAILED:
                self._known.validate((call.query, call.types), call.state, call.name, [result])


def _read_results(connection: PGconn) -> PQGen[list[PGresult]]:
    """Return all results up to that of the sync.

    libpq returns None after each result; two in a row mean that it has lost the connection.
    PostgreSQL sends 8 kB at a time. All that has arrived is taken in one turn of the event loop,
    because a turn for each piece costs more than the rest of reading a page.
    """
    results: list[PGresult] = []
    result: PGresult | None = None
    while True:
        while connection.is_busy():
            yield Wait.R
            connection.consume_input()
            while connection.is_busy() and is_readable(connection.socket):
                connection.consume_input()
        before, result = result, connection.get_result()
        if result is None:
            if before is None:
                raise psycopg.OperationalError("the connection was lost")
        elif result.status == ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)


def is_readable(socket: int, within_milliseconds: int = 0) -> bool:
    """Return whether the socket has something to read, now or within so many milliseconds."""
    arrival = poll()
    arrival.register(socket, POLLIN)
    return bool(arrival.poll(within_milliseconds))
