"""The HTTP service on a port in the test's own process, and clients that send raw bytes."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

from psycopg.pq import TransactionStatus
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.settings import Settings
from outbox.write.database import Database
from services.assembly import catalog, qdrant
from services.catalog.embedder import WordLlamaEmbedder
from services.catalog.routes import Api
from stack.servers.port import LOOPBACK
from tests.kit.waiting import until
from web.server import Serving

CREATE = b'{"catalog_id": "%s", "name": "n"}'


@dataclass(frozen=True)
class Served:
    """Where the service answers, and the objects inside it."""

    url: str
    api: Api

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def pool(self) -> Any:
        return self.api.database._engine.pool

    async def clean(self, connections: int) -> None:
        """Raise AssertionError unless the pool has so many connections, none in a transaction."""
        assert self.pool.checkedout() == 0, self.pool.status()
        async with asyncio.timeout(30):
            held = [await self.api.database._engine.connect() for _ in range(connections)]
        for each in held:
            assert await status(each) == TransactionStatus.IDLE
            await each.close()


async def status(connection: AsyncConnection) -> TransactionStatus:
    """The status of a connection fresh from the pool, in which SQLAlchemy has begun nothing."""
    raw = await connection.get_raw_connection()
    assert raw.driver_connection is not None
    found: TransactionStatus = raw.driver_connection.pgconn.transaction_status
    return found


@asynccontextmanager
async def served(settings: Settings, **changed: Any) -> AsyncIterator[Served]:
    """Serve during the block, on a port of its own."""
    own = settings.model_copy(update={"http_port": 0, "drain_seconds": 0.0, **changed})
    async with Database(own, "catalog") as database:
        api = catalog(database, lambda: qdrant(own), WordLlamaEmbedder())
        serving = Serving(own, api)
        task = asyncio.create_task(serving.run())
        try:
            yield Served(await serving.url(), api)
        finally:
            serving.stop()
            await task


class RawClient:
    """One TCP connection, on which a test sends any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection(LOOPBACK, port))

    async def say(self, data: bytes) -> None:
        """Send these bytes; no error if the server has ended the connection."""
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def hear(self) -> bytes:
        """All that comes until the server ends the connection."""
        heard = b""
        with suppress(ConnectionError):
            while data := await self._reader.read(65_536):
                heard += data
        return heard

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of one answer with a Content-Length."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith("content-length:"))
        return int(lines[0].split()[1]), await self._reader.readexactly(length)

    def reset(self) -> None:
        """End the connection by RST, as a client that died does."""
        lingering: socket.socket = self._writer.get_extra_info("socket")
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request; `Idempotency_Key="k"` is a header, an empty one is left out."""
    given = {"Host": "test", "Content_Length": str(len(body)), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body


def creation(name: str, body: bytes = CREATE) -> bytes:
    """The bytes of a request that creates a catalog; its name is its Idempotency-Key, too."""
    return request(
        "POST", "/catalogs", body % name.encode(),
        Idempotency_Key=name, Content_Type="application/json",
    )  # fmt: skip


async def lives(port: int, within_seconds: float = 60.0) -> None:
    """Return once the service there answers."""

    async def answers() -> bool:
        try:
            client = await RawClient.to(port)
            await client.say(request("GET", "/livez"))
            status, _ = await client.answer()
            await client.close()
        except (OSError, asyncio.IncompleteReadError):
            return False
        return status == 200

    await until(answers, within_seconds)


async def created(connection: Any) -> dict[str, tuple[int, int]]:
    """By catalog: how many events it has, and how many receipts have a reply about it."""
    rows = await connection.execute(
        """
        SELECT catalog_id,
               (SELECT count(*) FROM outbox.messages
                WHERE aggregatetype = 'catalog.catalog' AND aggregateid = catalog_id),
               (SELECT count(*) FROM outbox.receipts WHERE reply->>'subject' = catalog_id)
        FROM catalog.catalogs
        """
    )
    return {name: (events, receipts) for name, events, receipts in await rows.fetchall()}
