"""Server: serves the application on a port until it is stopped and has answered all requests."""

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
    """The address is in use, is not of this machine, or is not allowed for this user."""


async def listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Sockets that listen at every address of `host`; raises CannotListen.

    It is done here because uvicorn would log a line of its own and end the process from within.
    """
    try:
        return await _bind(host, port, backlog)
    except OSError as error:
        number = error.errno or 0  # below 0 where the host name is unknown
        why = os.strerror(number) if number > 0 else error.strerror
        raise CannotListen(
            f"cannot listen at {host}:{port} ({why}); "
            "set AFTERCOMMIT_HTTP_HOST and AFTERCOMMIT_HTTP_PORT to a free address of this machine"
        ) from error


async def _bind(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Bind the way asyncio does; `listen` may still fail on a socket that could be bound."""
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

    For `drain_seconds` after `stop` it says that it is not ready, and still serves: a load balancer
    has that long to send requests elsewhere. Then it accepts nothing new, and requests under way
    have `shutdown_timeout_seconds` left. Weakness: a connection that a client has made, and that is
    not accepted yet at that moment, is reset by the kernel; so the balancer must have asked for
    readiness by then.
    """

    def __init__(self, settings: Settings, api: Api) -> None:
        self._drain_seconds = settings.drain_seconds
        self._draining = Draining(application(api, settings.body_timeout_seconds))
        self._server = _Server(_build_config(settings, Target(self._draining)))

    async def run(self) -> None:
        """Serve until `stop`; raises CannotListen where the address cannot be used."""
        config = self._server.config
        await self._server.serve(await listen(config.host, config.port, config.backlog))

    async def url(self) -> str:
        """The URL at which it answers; returns once it does."""
        await self._server.up.wait()
        host, port = self._server.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    def stop(self) -> None:
        """Begin to drain; must be called in the event loop that runs the server."""
        self._draining.begin()
        asyncio.get_running_loop().call_later(self._drain_seconds, self._end)

    def _end(self) -> None:
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Says when it is up, and leaves signals to its process."""

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
        """Leave it to the event loop to close the listening sockets.

        uvicorn would close `sockets` itself, while the loop still watches their file descriptors.
        """
        del sockets
        await super().shutdown()


def _build_config(settings: Settings, app: Target) -> uvicorn.Config:
    """Return uvicorn's settings: our own logs and limits, and a bounded shutdown."""
    return uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        http=limit_header_time(settings.request_headers_timeout_seconds),
        ws="none",  # no route speaks WebSocket, and a server may ignore an upgrade
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.shutdown_timeout_seconds,
    )
