"""Round trip: statements that go to PostgreSQL in one piece, and are answered in one.

PostgreSQL skips all statements behind one that fails, so a COMMIT at the end is reached only where
all before it succeeded. psycopg's own pipeline does the same, but looks at the socket before each
statement and twice at its end: seven turns of the event loop for a statement and a COMMIT, which
cost as much as the round trip that it saves. So this speaks to libpq, through psycopg's own access
to it. What a session has prepared stays psycopg's to know: after a rollback it lets the session
forget everything.
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
    """SQL, and what its parameters $1, $2 and so on are called."""

    sql: bytes
    names: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        """From SQL with parameters as `%(name)b`."""
        names = tuple(dict.fromkeys(re.findall(r"%\((\w+)\)b", text)))
        numbered = re.sub(r"%\((\w+)\)b", lambda found: f"${names.index(found[1]) + 1}", text)
        return cls(numbered.encode(), names)


@dataclass(frozen=True, slots=True)
class Request:
    """A statement and its values, by their names; `prepare` it, where it is no trifle."""

    statement: Statement
    values: Mapping[str, Any] = field(default_factory=dict)
    prepare: bool = True


COMMIT = Request(Statement.of("COMMIT"), prepare=False)


async def execute_at_once(
    driver: psycopg.AsyncConnection[Any], requests: Sequence[Request]
) -> list[Rows]:
    """The rows of each request, in the open transaction; the first error of one is raised.

    An error of the connection does not tell whether a COMMIT was done. Statements are prepared once
    a session, unless the connection was told not to prepare.
    """
    if driver.pgconn.transaction_status == TransactionStatus.IDLE and not driver.autocommit:
        await driver.execute("")  # psycopg begins, as the connection was told to
    exchange = _Exchange(driver, requests)
    async with driver.lock:
        return await driver.wait(exchange.run())


class _Call:
    """A request in the form that libpq takes, and its answer.

    `query` and `types` are what psycopg knows a prepared statement by.
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
        """In psycopg's list of what the session has prepared; from now on it is in there."""
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
    """One piece there, and one back."""

    def __init__(self, driver: psycopg.AsyncConnection[Any], requests: Sequence[Request]) -> None:
        self._connection: PGconn = driver.pgconn
        self._known = driver._prepared
        transformer = Transformer(driver)  # tells of each call in turn what it has made of it
        self._calls = [_Call(transformer, request) for request in requests]
        for call in self._calls:  # once all of them can be sent
            call.look_up(self._known)
        self._new = {call.name: call for call in self._calls if call.state is Prepare.SHOULD}

    def run(self) -> PQGen[list[Rows]]:
        """For `AsyncConnection.wait`, which lets it run to its end also where it is cancelled."""
        self._connection.enter_pipeline_mode()
        try:
            results = yield from self._exchange()
        except BaseException:
            self._connection.finish()  # nobody can tell where the exchange stands
            raise
        self._connection.exit_pipeline_mode()
        answers = results[len(self._new) :]
        self._remember(answers)
        for result in results:
            if result.status in FAILED:
                raise psycopg.errors.error_from_result(result)
        return [call.rows(result) for call, result in zip(self._calls, answers, strict=True)]

    def _exchange(self) -> PQGen[list[PGresult]]:
        """The results of what had to be prepared, then those of the calls."""
        for call in self._new.values():
            self._connection.send_prepare(call.name, call.query, call.types)
        for call in self._calls:
            call.send(self._connection)
        self._connection.pipeline_sync()
        yield from send(self._connection)
        return (yield from _results(self._connection))

    def _remember(self, answers: Sequence[PGresult]) -> None:
        """Tell psycopg what became of them: one that failed is prepared anew the next time."""
        for call, result in zip(self._calls, answers, strict=True):
            if call.is_new or result.status in FAILED:
                self._known.validate((call.query, call.types), call.state, call.name, [result])


def _results(connection: PGconn) -> PQGen[list[PGresult]]:
    """All results up to that of the sync. libpq puts None behind each; twice, it has lost the rest.

    PostgreSQL sends 8 kB at a time. All that is there is taken in one turn of the event loop; a
    turn for each piece costs more than the rest of reading a page.
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
    """Whether something is there to be read, or is soon."""
    arrival = poll()
    arrival.register(socket, POLLIN)
    return bool(arrival.poll(within_milliseconds))
