"""Proxy: a TCP proxy on loopback that a test can make misbehave, also while connections live.

It does not understand the bytes that go through it. `kafka_proxy.py` and `postgres_proxy.py` add a
Wire that does.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from enum import Enum
from typing import Self

from stack.servers.port import LOOPBACK
from tests.kit.proxies.toxics import Toxic

CHUNK_BYTES = 64 * 1024


class Direction(Enum):
    UP = "client to server"
    DOWN = "server to client"


UP, DOWN = Direction


class Wire:
    """Understands the bytes of one connection; this one passes them on as they come.

    What it yields goes through the toxics afterwards. While it waits, its direction stands still.
    """

    async def up(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        yield chunk

    async def down(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        yield chunk


class Stream:
    """One socket of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer

    async def write(self, data: bytes) -> None:
        """Send these bytes; ConnectionError if the other end is gone."""
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()

    def end(self) -> None:
        """Say that nothing more will be written; what comes is still read."""
        if not self._writer.is_closing():
            with suppress(OSError):
                self._writer.write_eof()

    def close(self) -> None:
        """Close the socket after what is written already, and do not wait for that."""
        self._writer.close()

    async def wait_closed(self) -> None:
        """Close the socket, and return when it is closed."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Close the socket at once, and drop what is not sent yet."""
        self._writer.transport.abort()

    def reset(self) -> None:
        """Send RST: with this option the kernel drops what it holds, and tells the other end."""
        if not self._writer.is_closing():
            lingering: socket.socket = self._writer.get_extra_info("socket")
            lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Flow:
    """One direction of one connection: bytes are read, understood, held by toxics, and written."""

    def __init__(self, connection: "Connection", direction: Direction) -> None:
        self._connection = connection
        self._direction = direction
        self._proxy = connection.proxy
        up = direction is UP
        self._source = connection.client if up else connection.server
        self._target = connection.server if up else connection.client
        self._wire = connection.wire.up if up else connection.wire.down

    async def run(self) -> None:
        """Pass bytes on until the source ends, or one of the two ends is gone."""
        self.begin(self._toxics())
        with suppress(ConnectionError):
            while chunk := await self._source.reader.read(CHUNK_BYTES):
                async with aclosing(self._wire(chunk)) as understood:
                    async for data in understood:
                        await self._write(data, self._toxics())
        for toxic in self._toxics():
            await toxic.before_end(self)
        if self._direction is UP:
            self._target.end()
        else:
            self._target.close()  # the server will answer no more, so the client need not go on

    async def _write(self, data: bytes, toxics: list[Toxic]) -> None:
        if not toxics:
            await self._target.write(data)
            return
        first, *others = toxics
        async with aclosing(first.through(data, self)) as passing:
            async for piece in passing:
                await self._write(piece, others)

    def begin(self, toxics: list[Toxic]) -> None:
        for toxic in toxics:
            toxic.begin(self)

    def _toxics(self) -> list[Toxic]:
        return self._proxy.toxics(self._direction)

    async def hold(self, toxic: Toxic, seconds: float | None = None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while toxic in self._toxics():
                    await self._proxy.changed.wait()

    def later(self, toxic: Toxic, seconds: float, reset: bool) -> None:
        def end() -> None:
            if toxic in self._toxics():
                self._connection.reset() if reset else self.close()

        asyncio.get_running_loop().call_later(seconds, end)

    def close(self) -> None:
        self._connection.close()


class Connection:
    """A client's connection to us, and ours to the server.

    What a client has sent still arrives after the client has gone: a flow that is held goes on
    later, like bytes that a network has taken already.
    """

    def __init__(self, proxy: "Proxy", client: Stream, server: Stream) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.wire = proxy.wire(self)
        self.flows = {direction: Flow(self, direction) for direction in Direction}

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for flow in self.flows.values():
                    group.create_task(flow.run())
            await self.client.wait_closed()
            await self.server.wait_closed()
        finally:
            self.client.abort()
            self.server.abort()

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def reset(self) -> None:
        self.client.reset()
        self.server.reset()


class Proxy:
    """Listens on a port of its own, and forwards to `upstream` (`host:port`).

    In an `async with` it is up for the length of the block. An ExceptionGroup at the block's end
    says what a Wire did not understand.
    """

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self.upstream = (host, int(port))
        self.port = 0
        self.accepted = 0
        self.changed = asyncio.Event()
        self._toxics: dict[Direction, list[Toxic]] = {UP: [], DOWN: []}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._errors: list[Exception] = []

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def wire(self, connection: Connection) -> Wire:
        """Return what understands the bytes of a new connection."""
        del connection
        return Wire()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()
        if self._errors:
            raise ExceptionGroup("the proxy did not understand what it carried", self._errors)

    async def up(self) -> None:
        """Listen; after it has been down, it listens on the same port."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """End all connections, held bytes included, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def toxics(self, direction: Direction) -> list[Toxic]:
        """Return the toxics in force; the one that was added first comes first."""
        return list(self._toxics[direction])

    def add(self, toxic: Toxic, *directions: Direction) -> None:
        """Put a toxic in force for all connections; in both directions if none is named."""
        for direction in directions or Direction:
            self._toxics[direction].append(toxic)
            for connection in self._connections:
                connection.flows[direction].begin([toxic])

    def remove(self, toxic: Toxic) -> None:
        for toxics in self._toxics.values():
            with suppress(ValueError):
                toxics.remove(toxic)
        self.changed.set()
        self.changed = asyncio.Event()

    @contextmanager
    def toxic(self, toxic: Toxic, *directions: Direction) -> Iterator[None]:
        """Put a toxic in force for the length of the block."""
        self.add(toxic, *directions)
        try:
            yield
        finally:
            self.remove(toxic)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._serve(Stream(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: Stream) -> None:
        try:
            server = Stream(*await asyncio.open_connection(*self.upstream))
        except OSError:
            client.reset()
            return
        except asyncio.CancelledError:
            client.reset()
            raise
        connection = Connection(self, client, server)
        self._connections.add(connection)
        try:
            await connection.run()
        except Exception as error:  # raised at the end of the proxy's block
            self._errors.append(error)
        finally:
            self._connections.discard(connection)
