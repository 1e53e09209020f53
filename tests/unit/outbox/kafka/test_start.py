"""A client that is cancelled while it starts leaves no connection open."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from outbox.kafka.errors import start_client, wait_until_client_ended

pytestmark = pytest.mark.anyio

API_VERSIONS = 18
METADATA = 3
SUPPORTED = struct.pack(">hihhh", 0, 1, METADATA, 0, 0)  # no error; one request, in version 0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class SilentBroker:
    """Says what it supports, and answers nothing else; `ended` is set once the client has left."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request = await reader.readexactly(size)
                key, _, correlation = struct.unpack(">hhi", request[:8])
                if key == API_VERSIONS:
                    answer = struct.pack(">i", correlation) + SUPPORTED
                    writer.write(struct.pack(">i", len(answer)) + answer)
                else:
                    self.asked.set()
        except asyncio.IncompleteReadError:
            self.ended.set()
        finally:
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[SilentBroker, str]]:
    broker = SilentBroker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    async with server:
        yield broker, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("make", [AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient])
async def test_a_start_that_is_cancelled_closes_the_connection(make: Callable[..., Any]) -> None:
    async with listening() as (broker, address):
        client = make(bootstrap_servers=address)
        starting = asyncio.create_task(start_client(client))
        await broker.asked.wait()
        starting.cancel()
        [ended] = await asyncio.gather(starting, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)
        del starting, ended  # a traceback would keep the connection alive
        end = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
        await wait_until_client_ended(end())
        async with asyncio.timeout(30):
            await broker.ended.wait()
