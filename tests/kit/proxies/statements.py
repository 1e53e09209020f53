"""Statements: a connection through a proxy is cut at the n-th statement that it sends.

Every message that runs one counts, so BEGIN, COMMIT and ROLLBACK do, too.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from tests.kit.proxies.postgres_proxy import QUERY, Messages
from tests.kit.proxies.proxy import Connection, Proxy, Wire

BIND, READY = b"B", b"Z"


@dataclass(eq=False)
class CutAtStatement:
    """`done`: PostgreSQL has done the statement, but its answer is lost; else it never gets it."""

    nth: int
    done: bool
    seen: int = 0
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def takes(self) -> bool:
        """Whether this further statement is the one."""
        self.seen += 1
        return self.seen == self.nth


class StatementProxy(Proxy):
    """In front of a PostgreSQL server; clients must not encrypt (`url_through`)."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.cut: CutAtStatement | None = None

    def wire(self, connection: Connection) -> Wire:
        return StatementWire(self, connection)


class StatementWire(Wire):
    """Messages of one connection; once it is cut, nothing passes any more."""

    def __init__(self, proxy: StatementProxy, connection: Connection) -> None:
        self._proxy = proxy
        self._connection = connection
        self._up = Messages(started=False)
        self._down = Messages(started=True)
        self._cut: CutAtStatement | None = None

    async def up(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        for message in self._up.fed(chunk):
            cut = self._proxy.cut
            if self._cut is None and cut and message[:1] in (QUERY, BIND) and cut.takes():
                self._cut = cut
            if self._cut is None or self._cut.done:
                yield message
            else:
                self._end(self._cut)

    async def down(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        for message in self._down.fed(chunk):
            if self._cut is None:
                yield message
            elif message[:1] == READY:
                self._end(self._cut)

    def _end(self, cut: CutAtStatement) -> None:
        self._connection.reset()
        cut.happened.set()
