"""Echo: a server that sends back what it gets, and a client of it, to test a proxy between them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from stack.servers.port import LOOPBACK
from tests.kit.proxies.proxy import Proxy

WITHIN_SECONDS = 60.0


@dataclass
class Echo:
    """A server that sends back what it gets, and remembers the pieces in which it came."""

    port: int = 0
    pieces: list[bytes] = field(default_factory=list)
    ended: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 20):
                self.pieces.append(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.ended += 1
            writer.close()

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)

    async def has_received(self, data: bytes) -> bool:
        return self.received == data


@dataclass
class Client:
    """One connection to an echo server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def back(self, data: bytes) -> bytes:
        """Send this, and return what comes back: as many bytes as were sent."""
        self.writer.write(data)
        async with asyncio.timeout(WITHIN_SECONDS):
            return await self.reader.readexactly(len(data))

    async def seconds(self, data: bytes) -> float:
        """Return how long `back` takes."""
        since = time.monotonic()
        assert await self.back(data) == data
        return time.monotonic() - since

    async def wait_until_closed(self) -> None:
        """Return at the connection's end, in either of the two ways a kernel reports it."""
        try:
            while await self.reader.read(100):
                pass
        except ConnectionResetError:
            pass

    async def assert_reset(self) -> None:
        """Assert that the connection ends with a TCP reset, and with no more bytes."""
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(WITHIN_SECONDS):
                await self.reader.read()


@asynccontextmanager
async def echo_server() -> AsyncIterator[Echo]:
    """Serve on a free port for the length of the block."""
    echo = Echo()
    server = await asyncio.start_server(echo.serve, LOOPBACK, 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Client]:
    """Hold a new connection through the proxy for the length of the block."""
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
