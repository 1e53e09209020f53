"""The fault proxy passes on what it gets, and goes down and up at the same address."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from tests.kit.proxies.echo import WITHIN_SECONDS, Client, Echo, connected
from tests.kit.proxies.proxy import Connection, Proxy, Wire
from tests.kit.proxies.toxics import Toxic

pytestmark = pytest.mark.anyio


async def test_without_toxics_bytes_and_ends_pass_unchanged(
    proxy: Proxy, echo: Echo, client: Client
) -> None:
    large = bytes(range(256)) * 8_000
    assert await client.back(large) == large
    client.writer.write_eof()
    async with asyncio.timeout(WITHIN_SECONDS):
        assert await client.reader.read() == b""
    assert (echo.received, echo.ended, proxy.accepted) == (large, 1, 1)


async def test_a_toxic_of_the_base_class_changes_nothing(proxy: Proxy, client: Client) -> None:
    with proxy.toxic(Toxic()):
        assert await client.back(b"as it was") == b"as it was"


async def test_down_ends_what_there_is_and_refuses_until_it_is_up_again(
    proxy: Proxy, client: Client
) -> None:
    assert await client.back(b"there") == b"there"
    port = proxy.port
    await proxy.down()
    async with asyncio.timeout(WITHIN_SECONDS):
        await client.wait_until_closed()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await proxy.up()
    assert proxy.port == port
    async with connected(proxy) as another:
        assert await another.back(b"back") == b"back"


async def test_a_server_that_is_away_is_a_reset(echo: Echo) -> None:
    async with Proxy("127.0.0.1:1") as proxy, connected(proxy) as client:
        await client.assert_reset()
    assert echo.pieces == []


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
                await client.wait_until_closed()
