"""Listener: a server on loopback in front of PostgreSQL, with a task for each client."""

import asyncio
from abc import ABC, abstractmethod
from typing import Self

from sqlalchemy import make_url

from stack.servers.port import LOOPBACK


class Listener(ABC):
    """Accepts clients from the beginning of the block to its end, which ends their connections.

    `target` is the URL of the server behind it; `accepted` counts the clients.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The target's URL, with our port in it."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return make_url(self.target).set(port=port).render_as_string(hide_password=False)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """End all connections that live now."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @abstractmethod
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until its connection ends."""
