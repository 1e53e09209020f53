"""Round trip: statements that go to PostgreSQL in one piece, and are answered in one.

PostgreSQL skips all statements behind one that fails, so a COMMIT at the end is reached only where
all before it succeeded. psycopg's own pipeline does the same, but looks at the socket before each
statement and twice at its end: seven turns of the event loop for a statement and a COMMIT, where
one turn costs more than half of what PostgreSQL needs for the statement. So this speaks to libpq,
through psycopg's own access to it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self
from weakref import WeakKeyDictionary

import psycopg
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.generators import fetch_many, send
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

Rows = list[tuple[Any, ...]]
FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.PIPELINE_ABORTED)

# What a session knows our statements by. It may lose them (DISCARD ALL), or their results may no
# longer be what they were (ALTER TABLE): then they are prepared anew, under other names.
STALE = ("26000", "0A000")
Known = tuple[bytes, tuple[int, ...]]  # SQL, and the types of its parameters
_prepared: WeakKeyDictionary[psycopg.AsyncConnection[Any], dict[Known, bytes]] = WeakKeyDictionary()
_numbers = count(1)


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
    """A statement and its values, by their names."""

    statement: Statement
    values: Mapping[str, Any] = field(default_factory=dict)


COMMIT = Request(Statement.of("COMMIT"))


async def at_once(driver: psycopg.AsyncConnection[Any], requests: Sequence[Request]) -> list[Rows]:
    """The rows of each request, in the open transaction; the first error of one is raised.

    An error of the connection does not tell whether a COMMIT was done. Statements are prepared once
    a session, unless the connection was told not to prepare.
    """
    if driver.info.transaction_status == TransactionStatus.IDLE:
        await driver.execute("")  # psycopg begins, as the connection was told to
    exchange = _Exchange(driver, requests)
    async with driver.lock:
        return await driver.wait(exchange.run())


class _Call:
    """A request in the form that libpq takes, and its answer."""

    def __init__(self, driver: psycopg.AsyncConnection[Any], request: Request) -> None:
        self.sql = request.statement.sql
        values = [request.values[name] for name in request.statement.names]
        self._transformer = Transformer(driver)
        self.values = self._transformer.dump_sequence(values, [PyFormat.BINARY] * len(values))
        self.types, self.formats = self._transformer.types or (), self._transformer.formats
        self.known_by: Known = (self.sql, self.types)

    def rows(self, result: PGresult) -> Rows:
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)


class _Exchange:
    """One piece there, and one back."""

    def __init__(self, driver: psycopg.AsyncConnection[Any], requests: Sequence[Request]) -> None:
        self._connection: PGconn = driver.pgconn
        self._calls = [_Call(driver, request) for request in requests]
        self._prepares = driver.prepare_threshold is not None
        self._known = _prepared.setdefault(driver, {})
        self._new: dict[Known, bytes] = {}

    def run(self) -> PQGen[list[Rows]]:
        """For `AsyncConnection.wait`, which lets it run to its end also where it is cancelled."""
        self._connection.enter_pipeline_mode()
        try:
            results = yield from self._exchange()
        except BaseException:
            self._connection.finish()  # nobody can tell where the exchange stands
            raise
        self._connection.exit_pipeline_mode()
        self._check(results)
        self._known.update(self._new)
        answers = results[len(self._new) :]
        return [call.rows(result) for call, result in zip(self._calls, answers, strict=True)]

    def _exchange(self) -> PQGen[list[PGresult]]:
        """The results of what had to be prepared, then those of the calls."""
        self._prepare()
        for call in self._calls:
            self._send(call)
        self._connection.pipeline_sync()
        yield from send(self._connection)
        results = []
        for _ in range(len(self._new) + len(self._calls)):
            results += yield from fetch_many(self._connection)
        yield from fetch_many(self._connection)  # the answer to the sync
        return results

    def _prepare(self) -> None:
        for call in self._calls if self._prepares else ():
            if call.known_by not in self._known | self._new:
                name = self._new[call.known_by] = b"outbox_%d" % next(_numbers)
                self._connection.send_prepare(name, call.sql, call.types)

    def _send(self, call: _Call) -> None:
        name = self._known.get(call.known_by) or self._new.get(call.known_by)
        if name is None:
            self._connection.send_query_params(
                call.sql, call.values, call.types, call.formats, Format.BINARY
            )
        else:
            self._connection.send_query_prepared(name, call.values, call.formats, Format.BINARY)

    def _check(self, results: Sequence[PGresult]) -> None:
        for result in results:
            if result.status in FAILED:
                error = psycopg.errors.error_from_result(result)
                if error.sqlstate in STALE:
                    self._known.clear()
                raise error
