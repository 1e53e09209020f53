"""Forwarder: plain TCP between a client and PostgreSQL, which can be cut or pointed elsewhere."""

import asyncio
from contextlib import suppress
from enum import Enum

from sqlalchemy import make_url

from tests.kit.proxies.listener import Listener

CHUNK_BYTES = 64 * 1024


class Lost(Enum):
    """What a client loses when it is cut: the words that it was cut at, or their answer."""

    REQUEST = "request"
    ANSWER = "answer"


class Forwarder(Listener):
    """Forwards each new connection to where `target` points at that moment."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self._cut: tuple[bytes, Lost] | None = None

    def cut_at(self, words: bytes, lost: Lost) -> None:
        """Cut the next client that sends these words, once.

        If the answer is lost, the server has given it: what the words asked for is done.
        """
        self._cut = (words, lost)

    @property
    def was_cut(self) -> bool:
        return self._cut is None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = make_url(self.target)
        with suppress(OSError):
            try:
                back, there = await asyncio.open_connection(target.host, target.port)
            except OSError:
                writer.transport.abort()
                raise
            down = asyncio.create_task(copy_bytes(back, writer))
            try:
                await self._forward(reader, back, there, down)
            finally:
                down.cancel()
                writer.transport.abort()
                there.transport.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        back: asyncio.StreamReader,
        there: asyncio.StreamWriter,
        down: asyncio.Task[None],
    ) -> None:
        """Pass on what the client sends, until it ends or is cut."""
        while chunk := await reader.read(CHUNK_BYTES):
            cut = self._cut if self._cut and self._cut[0] in chunk else None
            if cut is None:
                there.write(chunk)
                await there.drain()
                continue
            down.cancel()
            self._cut = None
            if cut[1] is Lost.ANSWER:
                await asyncio.wait({down})  # it reads no more
                there.write(chunk)
                await back.read(1)
            return


async def copy_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on all bytes until the reader ends, and close the writer then."""
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.close()
