"""A proxy in front of an echo server, and a client that is connected through it."""

from collections.abc import AsyncIterator

import pytest

from tests.kit.proxies.echo import Client, Echo, connected, echo_server
from tests.kit.proxies.proxy import Proxy


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echo_server() as echo:
        yield echo


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with Proxy(f"127.0.0.1:{echo.port}") as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    async with connected(proxy) as client:
        yield client
