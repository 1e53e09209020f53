"""Balancer: a small load balancer in front of several services; it asks each if it is ready."""

import asyncio
import itertools
from typing import Self

import httpx

from stack.servers.port import LOOPBACK
from tests.kit.proxies.proxy import Proxy, Stream
from tests.kit.waiting import until

ASK_SECONDS = 0.1


class Balancer(Proxy):
    """Gives each new connection to the next service that is ready, for as long as it lives.

    A service is ready if its /readyz answers and does not say that it drains; a test's search store
    may be down. A connection that finds no ready service waits for one.
    """

    def __init__(self, ports: list[int]) -> None:
        super().__init__(f"{LOOPBACK}:{ports[0]}")
        self._ready: dict[int, bool] = dict.fromkeys(ports, False)
        self._turns = itertools.cycle(ports)
        self._asking: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._asking = [asyncio.create_task(self._ask(port)) for port in self._ready]
        return await super().__aenter__()

    async def __aexit__(self, *error: object) -> None:
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await super().__aexit__(*error)

    async def ready(self, port: int, within_seconds: float) -> None:
        """Return once this service is given connections."""

        async def is_ready() -> bool:
            return self._ready[port]

        await until(is_ready, within_seconds)

    async def _ask(self, port: int) -> None:
        url = f"http://{LOOPBACK}:{port}/readyz"
        while True:
            async with httpx.AsyncClient(timeout=5.0) as client:
                self._ready[port] = await says_ready(client, url)
            await asyncio.sleep(ASK_SECONDS)

    async def _serve(self, client: Stream) -> None:
        while not any(self._ready.values()):  # noqa: ASYNC110 - `_ask` finds out
            await asyncio.sleep(ASK_SECONDS)
        self.upstream = (LOOPBACK, next(port for port in self._turns if self._ready[port]))
        await super()._serve(client)


async def says_ready(client: httpx.AsyncClient, url: str) -> bool:
    try:
        states = (await client.get(url)).json()
    except (httpx.TransportError, ValueError):
        return False
    return bool(states.get("process") != "draining")
