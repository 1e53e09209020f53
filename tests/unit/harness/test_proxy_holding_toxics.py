"""A toxic that holds bytes back does so while it is in force, and loses none of them."""

import asyncio
import time

import pytest

from tests.kit.proxies.echo import WITHIN_SECONDS, Client, Echo, connected
from tests.kit.proxies.proxy import DOWN, UP, Direction, Proxy
from tests.kit.proxies.toxics import (
    Bandwidth,
    Latency,
    Slicer,
    SlowClose,
    Timeout,
)
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

LONG_SECONDS = 0.4
ENDLESS_SECONDS = 3_600.0  # a toxic that is still at work is noticed on the slowest machine
BOTH = pytest.mark.parametrize("direction", [UP, DOWN])


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


async def test_what_a_client_had_sent_arrives_after_it_has_gone(proxy: Proxy, echo: Echo) -> None:
    hole = Timeout()
    proxy.add(hole, UP)
    async with connected(proxy) as client:
        client.writer.write(b"from beyond")
        await client.writer.drain()
    assert echo.received == b""
    proxy.remove(hole)
    await until(lambda: echo.has_received(b"from beyond"), WITHIN_SECONDS, 0.01)


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


async def test_two_toxics_are_both_in_force(proxy: Proxy, echo: Echo, client: Client) -> None:
    slicer, latency = Slicer(5), Latency(LONG_SECONDS)
    with proxy.toxic(latency, UP), proxy.toxic(slicer, UP):
        assert await client.seconds(b"0123456789") >= LONG_SECONDS
    assert len(echo.pieces) == 2
