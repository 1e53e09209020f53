"""A toxic that ends connections does so while it is in force, and ends none afterwards."""

import asyncio

import pytest

from tests.kit.proxies.echo import WITHIN_SECONDS, Client, Echo, connected
from tests.kit.proxies.proxy import DOWN, UP, Direction, Proxy
from tests.kit.proxies.toxics import (
    Latency,
    LimitData,
    ResetPeer,
    Timeout,
)
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

RESET_SECONDS = 3.0  # a busy machine answers before
BOTH = pytest.mark.parametrize("direction", [UP, DOWN])


async def test_a_black_hole_with_a_time_closes_after_it(proxy: Proxy, client: Client) -> None:
    assert await client.back(b"there") == b"there"
    with proxy.toxic(Timeout(seconds=0.05)):
        client.writer.write(b"lost")
        async with asyncio.timeout(WITHIN_SECONDS):
            assert await client.reader.read() == b""


@BOTH
async def test_a_reset_reaches_live_connections_and_new_ones(
    proxy: Proxy, client: Client, direction: Direction
) -> None:
    assert await client.back(b"there") == b"there"
    with proxy.toxic(ResetPeer(), direction):
        await client.assert_reset()
        async with connected(proxy) as another:
            await another.assert_reset()
    async with connected(proxy) as third:
        assert await third.back(b"whole again") == b"whole again"


async def test_a_reset_may_come_later(proxy: Proxy, client: Client) -> None:
    with proxy.toxic(ResetPeer(RESET_SECONDS)):
        assert await client.back(b"still there") == b"still there"
        await client.assert_reset()


async def test_a_reset_that_is_taken_back_in_time_never_comes(proxy: Proxy, client: Client) -> None:
    with proxy.toxic(ResetPeer(RESET_SECONDS)):
        assert await client.back(b"x") == b"x"
    with proxy.toxic(Latency(1.2 * RESET_SECONDS), UP):
        assert await client.back(b"still there") == b"still there"


async def test_a_limit_cuts_after_exactly_so_many_bytes(
    proxy: Proxy, echo: Echo, client: Client
) -> None:
    with proxy.toxic(LimitData(10), UP):
        client.writer.write(b"0123456")
        client.writer.write(b"789abcdef")
        async with asyncio.timeout(WITHIN_SECONDS):
            await client.wait_until_closed()
        await until(lambda: echo.has_received(b"0123456789"), WITHIN_SECONDS, 0.01)
    async with connected(proxy) as another:
        assert await another.back(b"x" * 50) == b"x" * 50
