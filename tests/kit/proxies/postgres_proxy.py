"""PostgresProxy: a proxy that knows a COMMIT, and can lose it or its answer.

Clients must not encrypt (`url_through` says so to libpq).
"""

import asyncio
import struct
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field

from sqlalchemy import make_url

from stack.servers.port import LOOPBACK
from tests.kit.proxies.proxy import Connection, Proxy, Wire

LENGTH = struct.Struct(">i")
ENCRYPTION = (80877103, 80877104)  # SSLRequest and GSSENCRequest
QUERY, PARSE = b"Q", b"P"
COMPLETE, ERROR = b"C", b"E"


@dataclass(eq=False)
class Cut:
    """Cuts the connection at the `nth` COMMIT that a client sends, or what else a proxy counts.

    With `delivered` the server has done it and answered, but the answer is lost. Otherwise it never
    learns of it; without its COMMIT it rolls back. `happened` is set when the connection has been
    reset.
    """

    delivered: bool
    nth: int = 1
    happened: asyncio.Event = field(default_factory=asyncio.Event)
    seen: int = 0

    def takes(self) -> bool:
        """Count one more, and return whether it is the one to cut at."""
        self.seen += 1
        return self.seen == self.nth


class CuttingProxy(Proxy):
    """A proxy that may cut a connection where `cut` says, if there is one."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.cut: Cut | None = None


class CuttingWire(Wire):
    """One connection of a CuttingProxy."""

    def __init__(self, proxy: CuttingProxy, connection: Connection) -> None:
        self._proxy = proxy
        self._connection = connection

    def _take_cut(self) -> Cut | None:
        """Count one more, and return the proxy's cut if this is the one to cut at."""
        cut = self._proxy.cut
        return cut if cut is not None and cut.takes() else None

    def _end(self, cut: Cut) -> None:
        self._connection.reset()
        cut.happened.set()


class PostgresProxy(CuttingProxy):
    """A proxy in front of a PostgreSQL server."""

    def wire(self, connection: Connection) -> Wire:
        return PostgresWire(self, connection)


def address_of(url: str) -> str:
    """Return `host:port` of a PostgreSQL URL."""
    parsed = make_url(url)
    return f"{parsed.host}:{parsed.port}"


def url_through(proxy: Proxy, url: str) -> str:
    """Return the URL of the same database through the proxy, without encryption."""
    plain = {"sslmode": "disable", "gssencmode": "disable"}
    ours = make_url(url).set(host=LOOPBACK, port=proxy.port).update_query_dict(plain)
    return ours.render_as_string(hide_password=False)


class PostgresWire(CuttingWire):
    """Takes one connection apart into whole messages, and looks for COMMIT."""

    def __init__(self, proxy: CuttingProxy, connection: Connection) -> None:
        super().__init__(proxy, connection)
        self._up = Messages(started=False)
        self._down = Messages(started=True)
        self._cut: Cut | None = None

    async def up(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        for message in self._up.feed(chunk):
            if self._cut is None and self._counts(message):
                self._cut = self._take_cut()
            if self._cut is None or self._cut.delivered:
                yield message
            else:
                self._end(self._cut)

    async def down(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        for message in self._down.feed(chunk):
            if self._cut is None:
                yield message
            elif self._answers(message):
                self._end(self._cut)

    def _counts(self, message: bytes) -> bool:
        """Return whether a client's message is one to count."""
        return is_commit(message)

    def _answers(self, message: bytes) -> bool:
        """Return whether a server's message ends its answer to what was counted."""
        return message[:1] == ERROR or (message[:1] == COMPLETE and b"COMMIT" in message)


class Messages:
    """Takes chunks of any size, and gives PostgreSQL's messages.

    A client's first message has no letter in front: `started` says that it has gone by.
    """

    def __init__(self, *, started: bool) -> None:
        self._letter = int(started)
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the messages that this chunk completes."""
        self._rest += chunk
        while len(self._rest) >= self._letter + LENGTH.size:
            end = self._letter + LENGTH.unpack_from(self._rest, self._letter)[0]
            if len(self._rest) < end:
                return
            message, self._rest = self._rest[:end], self._rest[end:]
            if not self._letter:
                code = LENGTH.unpack_from(message, LENGTH.size)[0]
                assert code not in ENCRYPTION, "this client wants to encrypt: use url_through"
                self._letter = 1
            yield message


def is_commit(message: bytes) -> bool:
    """Return whether this is a COMMIT, as a plain query or as the statement of an extended one.

    Weakness: a COMMIT that was prepared before and is executed by its name is not seen.
    """
    kind, body = message[:1], message[1 + LENGTH.size :]
    if kind == PARSE:
        body = body.split(b"\0")[1]
    return kind in (QUERY, PARSE) and body.rstrip(b"\0; ").upper() == b"COMMIT"
