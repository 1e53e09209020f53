"""The fault proxy: each toxic does what it says while it is in force, and nothing afterwards."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.kit.proxies.proxy import DOWN, UP, Connection, Direction, Proxy, Wire
from tests.kit.proxies.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60.0
LONG_SECONDS = 0.4
RESET_SECONDS = 3.0  # a busy machine answers before
ENDLESS_SECONDS = 3_600.0  # a toxic that is still at work is noticed on the slowest machine
BOTH = pytest.mark.parametrize("direction", [UP, DOWN])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def back(self, data: bytes) -> bytes:
        """What comes back, as much as was sent."""
        self.writer.write(data)
        async with asyncio.timeout(WITHIN_SECONDS):
            return await self.reader.readexactly(len(data))

    async def seconds(self, data: bytes) -> float:
        """How long that takes."""
        since = time.monotonic()
        assert await self.back(data) == data
        return time.monotonic() - since


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with Proxy(f"127.0.0.1:{echo.port}") as proxy:
        yield proxy


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    async with connected(proxy) as client:
        yield client


async def test_without_toxics_bytes_and_ends_pass_unchanged(
    proxy: Proxy, echo: Echo, client: Client
) -> None:
    large = bytes(range(256)) * 8_000
    assert await client.back(large) == large
    client.writer.write_eof()
    async with asyncio.timeout(WITHIN_SECONDS):
        assert await client.reader.read() == b""
    assert (echo.received, echo.ended, proxy.accepted) == (large, 1, 1)


@BOTH
async def test_latency_delays_what_passes_until_it_is_removed(
    proxy: Proxy, client: Client, direction: Direction
) -> None:
    with proxy.toxic(Latency(LONG_SECONDS), direction):
        assert await client.seconds(b"slow") >= LONG_SECONDS
    with proxy.toxic(Latency(ENDLESS_SECONDS), direction):
        pass
    assert await client.back(b"quick") == b"quick"


async def test_jitter_varies_the_delay(proxy: Proxy, client: Client) -> None:
    with proxy.toxic(Latency(0.05, jitter=0.05), DOWN):
        took = [await client.seconds(b"x") for _ in range(12)]
    assert max(took) - min(took) > 0.03


async def test_a_delay_ends_with_its_toxic(proxy: Proxy, client: Client) -> None:
    endless = Latency(3_600.0)
    proxy.add(endless, UP)
    asyncio.get_running_loop().call_later(0.05, proxy.remove, endless)
    assert await client.back(b"at last") == b"at last"


@BOTH
async def test_bandwidth_bounds_the_rate(
    proxy: Proxy, client: Client, direction: Direction
) -> None:
    with proxy.toxic(Bandwidth(10_000), direction):
        assert await client.seconds(b"x" * 6_000) >= 0.6
    with proxy.toxic(Bandwidth(1), direction):
        pass
    assert await client.back(b"x" * 6_000) == b"x" * 6_000


async def test_a_slow_close_delays_the_end_only(proxy: Proxy, client: Client) -> None:
    with proxy.toxic(SlowClose(LONG_SECONDS), DOWN):
        assert await seconds_to_end(client) >= LONG_SECONDS
    with proxy.toxic(SlowClose(ENDLESS_SECONDS), DOWN):
        pass
    async with connected(proxy) as another:
        await seconds_to_end(another)


async def seconds_to_end(client: Client) -> float:
    assert await client.back(b"before the end") == b"before the end"
    client.writer.write_eof()
    since = time.monotonic()
    async with asyncio.timeout(WITHIN_SECONDS):
        assert await client.reader.read() == b""
    return time.monotonic() - since


@BOTH
async def test_a_black_hole_holds_all_until_it_is_removed(
    proxy: Proxy, echo: Echo, client: Client, direction: Direction
) -> None:
    hole = Timeout()
    proxy.add(hole, direction)
    client.writer.write(b"held")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(LONG_SECONDS):
            await client.reader.readexactly(1)
    assert echo.received == (b"" if direction is UP else b"held")
    proxy.remove(hole)
    async with asyncio.timeout(WITHIN_SECONDS):
        assert await client.reader.readexactly(4) == b"held"


async def test_a_black_hole_accepts_new_connections(proxy: Proxy, echo: Echo) -> None:
    with proxy.toxic(Timeout()):
        async with connected(proxy) as client:
            client.writer.write(b"hello?")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(LONG_SECONDS):
                    await client.reader.read(1)
    assert echo.ended == 0


async def test_a_black_hole_with_a_time_closes_after_it(proxy: Proxy, client: Client) -> None:
    assert await client.back(b"there") == b"there"
    with proxy.toxic(Timeout(seconds=0.05)):
        client.writer.write(b"lost")
        async with asyncio.timeout(WITHIN_SECONDS):
            assert await client.reader.read() == b""


async def test_what_a_client_had_sent_arrives_after_it_has_gone(proxy: Proxy, echo: Echo) -> None:
    hole = Timeout()
    proxy.add(hole, UP)
    async with connected(proxy) as client:
        client.writer.write(b"from beyond")
        await client.writer.drain()
    assert echo.received == b""
    proxy.remove(hole)
    await until(lambda: has_received(echo, b"from beyond"), WITHIN_SECONDS, 0.01)


async def has_received(echo: Echo, data: bytes) -> bool:
    return echo.received == data


@BOTH
async def test_a_reset_reaches_live_connections_and_new_ones(
    proxy: Proxy, client: Client, direction: Direction
) -> None:
    assert await client.back(b"there") == b"there"
    with proxy.toxic(ResetPeer(), direction):
        await is_reset(client)
        async with connected(proxy) as another:
            await is_reset(another)
    async with connected(proxy) as third:
        assert await third.back(b"whole again") == b"whole again"


async def test_a_reset_may_come_later(proxy: Proxy, client: Client) -> None:
    with proxy.toxic(ResetPeer(RESET_SECONDS)):
        assert await client.back(b"still there") == b"still there"
        await is_reset(client)


async def test_a_reset_that_is_taken_back_in_time_never_comes(proxy: Proxy, client: Client) -> None:
    with proxy.toxic(ResetPeer(RESET_SECONDS)):
        assert await client.back(b"x") == b"x"
    with proxy.toxic(Latency(1.2 * RESET_SECONDS), UP):
        assert await client.back(b"still there") == b"still there"


async def is_reset(client: Client) -> None:
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(WITHIN_SECONDS):
            await client.reader.read()


async def test_slices_arrive_as_pieces_in_order(proxy: Proxy, echo: Echo, client: Client) -> None:
    data = bytes(range(200))
    with proxy.toxic(Slicer(3, pause_seconds=0.002), UP):
        assert await client.back(data) == data
    sliced = list(echo.pieces)
    assert b"".join(sliced) == data
    assert len(sliced) > 10
    echo.pieces.clear()
    assert await client.back(data) == data
    assert len(echo.pieces) < len(sliced)


async def test_a_limit_cuts_after_exactly_so_many_bytes(
    proxy: Proxy, echo: Echo, client: Client
) -> None:
    with proxy.toxic(LimitData(10), UP):
        client.writer.write(b"0123456")
        client.writer.write(b"789abcdef")
        async with asyncio.timeout(WITHIN_SECONDS):
            await closed(client)
        await until(lambda: has_received(echo, b"0123456789"), WITHIN_SECONDS, 0.01)
    async with connected(proxy) as another:
        assert await another.back(b"x" * 50) == b"x" * 50


async def closed(client: Client) -> None:
    """Its end, in either of the two ways in which a kernel tells of it."""
    try:
        while await client.reader.read(100):
            pass
    except ConnectionResetError:
        pass


async def test_down_ends_what_there_is_and_refuses_until_it_is_up_again(
    proxy: Proxy, client: Client
) -> None:
    assert await client.back(b"there") == b"there"
    port = proxy.port
    await proxy.down()
    async with asyncio.timeout(WITHIN_SECONDS):
        await closed(client)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await proxy.up()
    assert proxy.port == port
    async with connected(proxy) as another:
        assert await another.back(b"back") == b"back"


async def test_a_server_that_is_away_is_a_reset(echo: Echo) -> None:
    async with Proxy("127.0.0.1:1") as proxy, connected(proxy) as client:
        await is_reset(client)
    assert echo.pieces == []


async def test_two_toxics_are_both_in_force(proxy: Proxy, echo: Echo, client: Client) -> None:
    slicer, latency = Slicer(5), Latency(LONG_SECONDS)
    with proxy.toxic(latency, UP), proxy.toxic(slicer, UP):
        assert await client.seconds(b"0123456789") >= LONG_SECONDS
    assert len(echo.pieces) == 2


async def test_a_toxic_of_the_base_class_changes_nothing(proxy: Proxy, client: Client) -> None:
    with proxy.toxic(Toxic()):
        assert await client.back(b"as it was") == b"as it was"


class Confused(Wire):
    async def up(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        if b"?" in chunk:
            raise ValueError(f"what is {chunk!r}?")
        yield chunk


class ConfusedProxy(Proxy):
    def wire(self, connection: Connection) -> Wire:
        del connection
        return Confused()


async def test_what_a_wire_does_not_understand_is_told_at_the_end(echo: Echo) -> None:
    with pytest.raises(ExceptionGroup, match="did not understand"):
        async with ConfusedProxy(f"127.0.0.1:{echo.port}") as proxy, connected(proxy) as client:
            client.writer.write(b"?")
            async with asyncio.timeout(WITHIN_SECONDS):
                await closed(client)
