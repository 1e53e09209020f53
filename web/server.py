"""Serving: the application on a port, until it is told to end and all that came is answered."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import uvicorn

from services.catalog.routes import Api
from services.settings import Settings
from web.app import application
from web.draining import Draining
from web.header_timeout import limit_header_time
from web.target import Target


class CannotListen(Exception):
    """The address is taken, is none of this machine's, or may not be had by this user."""


async def listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Sockets that listen at every address of `host`, or CannotListen.

    uvicorn would log a line of its own and end the process from within.
    """
    try:
        return await _listening(host, port, backlog)
    except OSError as error:
        number = error.errno or 0  # below 0 where the name is not known
        why = os.strerror(number) if number > 0 else error.strerror
        raise CannotListen(
            f"cannot listen at {host}:{port} ({why}); "
            "set AFTERCOMMIT_HTTP_HOST and AFTERCOMMIT_HTTP_PORT to a free address of this machine"
        ) from error


async def _listening(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Bound as asyncio does it; a socket may still turn out to be taken when it is to listen."""
    loop = asyncio.get_running_loop()
    bound = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    with closing(bound), ExitStack() as unused:
        sockets = [unused.enter_context(each.dup()) for each in bound.sockets]
        for each in sockets:
            each.listen(backlog)
        unused.pop_all()
    return sockets


class Serving:
    """A role: `run` returns after `stop`, once every request under way is answered.

    For `drain_seconds` after `stop` it says that it is not ready and serves on: a balancer has
    that long to send requests elsewhere. Then nothing new is accepted, and what is under way has
    `shutdown_timeout_seconds`. Weakness: a connection that was made and not yet accepted at that
    moment is reset by the kernel, so a balancer must have looked by then.
    """

    def __init__(self, settings: Settings, api: Api) -> None:
        self._drain_seconds = settings.drain_seconds
        self._draining = Draining(application(api, settings.body_timeout_seconds))
        self._server = _Server(_config(settings, Target(self._draining)))

    async def run(self) -> None:
        """CannotListen where the address cannot be had."""
        config = self._server.config
        await self._server.serve(await listen(config.host, config.port, config.backlog))

    async def url(self) -> str:
        """Where it answers; returns once it does."""
        await self._server.up.wait()
        host, port = self._server.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    def stop(self) -> None:
        """Say farewell; within the loop that runs it."""
        self._draining.begin()
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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The loop closes what listens. uvicorn would close `sockets` under it, which the loop then
        still watches by their numbers."""
        del sockets
        await super().shutdown()


def _config(settings: Settings, app: Target) -> uvicorn.Config:
    """By our own logs, with limits of our own, and with a bounded farewell."""
    return uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        http=limit_header_time(settings.request_headers_timeout_seconds),
        ws="none",  # whatever is installed: no route speaks it, and an upgrade may be ignored
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.shutdown_timeout_seconds,
    )
