"""Statements: a connection through a proxy is cut at the n-th statement that it sends.

Every message that runs a statement counts, and so BEGIN, COMMIT and ROLLBACK count, too.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from tests.kit.proxies.postgres_proxy import QUERY, Messages
from tests.kit.proxies.proxy import Connection, Proxy, Wire

BIND, READY = b"B", b"Z"


@dataclass(eq=False)
class CutAtStatement:
    """Cuts the connection at the `nth` statement that a client sends.

    With `done` PostgreSQL has done the statement, but its answer is lost. Otherwise it never gets
    the statement. `happened` is set when the connection has been reset.
    """

    nth: int
    done: bool
    seen: int = 0
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def takes(self) -> bool:
        """Count one more statement, and return whether it is the one to cut at."""
        self.seen += 1
        return self.seen == self.nth


class StatementProxy(Proxy):
    """A proxy in front of a PostgreSQL server; clients must not encrypt (`url_through`)."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.cut: CutAtStatement | None = None

    def wire(self, connection: Connection) -> Wire:
        return StatementWire(self, connection)


class StatementWire(Wire):
    """Takes one connection apart into messages; once it is cut, nothing passes any more."""

    def __init__(self, proxy: StatementProxy, connection: Connection) -> None:
        self._proxy = proxy
        self._connection = connection
        self._up = Messages(started=False)
        self._down = Messages(started=True)
        self._cut: CutAtStatement | None = None

    async def up(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        for message in self._up.feed(chunk):
            cut = self._proxy.cut
            if self._cut is None and cut and message[:1] in (QUERY, BIND) and cut.takes():
                self._cut = cut
            if self._cut is None or self._cut.done:
                yield message
            else:
                self._end(self._cut)

    async def down(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        for message in self._down.feed(chunk):
            if self._cut is None:
                yield message
            elif message[:1] == READY:
                self._end(self._cut)

    def _end(self, cut: CutAtStatement) -> None:
        self._connection.reset()
        cut.happened.set()
