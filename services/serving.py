"""Serving: the application on a port, until it is told to end and all that came is answered."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from services.assembly import application
from services.catalog.routes import Api
from services.connection import limited
from services.farewell import Farewell
from services.settings import Settings


class Serving:
    """A role: `run` returns after `stop`, once every request under way is answered.

    For `drain_seconds` after `stop` it says that it is not ready and serves on: a balancer has
    that long to send requests elsewhere. Then nothing new is accepted, and what is under way has
    `shutdown_timeout_seconds`. Weakness: a connection that was made and not yet accepted at that
    moment is reset by the kernel, so a balancer must have looked by then.
    """

    def __init__(self, settings: Settings, api: Api) -> None:
        self._drain_seconds = settings.drain_seconds
        self._farewell = Farewell(application(api, settings.body_timeout_seconds))
        self._server = _Server(_config(settings, self._farewell))

    async def run(self) -> None:
        """SystemExit where the port is taken."""
        await self._server.serve()

    async def url(self) -> str:
        """Where it answers; returns once it does."""
        await self._server.up.wait()
        host, port = self._server.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    def stop(self) -> None:
        """Say farewell; within the loop that runs it."""
        self._farewell.begin()
        asyncio.get_running_loop().call_later(self._drain_seconds, self._end)

    def _end(self) -> None:
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Says when it is up, and leaves signals to the process that it is a part of."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


def _config(settings: Settings, app: Farewell) -> uvicorn.Config:
    """By our own logs, with limits of our own, and with a bounded farewell."""
    return uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        http=limited(settings.head_timeout_seconds),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.shutdown_timeout_seconds,
    )
