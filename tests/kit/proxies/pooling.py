"""Pooling: what a pooler does with the first packet of a client, where no pooler is installed.

REFUSE is PgBouncer with its defaults; DROP is one that ignores `options`; ECHO asks for the
password and repeats it in its refusal, which no server should do. Apart from that packet the client
talks with PostgreSQL itself. Weakness: sessions are not lent to other clients here; the tests in
test_postgres_pooler.py show that with PgBouncer.
"""

import asyncio
import struct
from contextlib import suppress
from enum import Enum

from sqlalchemy import make_url

from tests.kit.proxies.forwarder import copy_bytes
from tests.kit.proxies.listener import Listener

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
HEAD = struct.Struct("!ii")


class Answer(Enum):
    REFUSE = "refuse"
    DROP = "drop"
    ECHO = "echo"


class Pooling(Listener):
    """A pooler's stand-in in front of the server of `target`."""

    def __init__(self, target: str, answer: Answer) -> None:
        super().__init__(target)
        self._answer = answer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            try:
                code, asked = await _read_first_packet(reader, writer)
                if "options" in asked and self._answer is Answer.REFUSE:
                    writer.write(_make_refusal("unsupported startup parameter: options"))
                    return
                if self._answer is Answer.ECHO:
                    await _repeat_password(reader, writer)
                    return
                asked.pop("options", None)
                target = make_url(self.target)
                back, there = await asyncio.open_connection(target.host, target.port)
                there.write(_make_packet(code, asked))
                down = asyncio.create_task(copy_bytes(back, writer))
                await copy_bytes(reader, there)
                await down
            finally:
                writer.close()


async def _read_first_packet(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[int, dict[str, str]]:
    while True:
        length, code = HEAD.unpack(await reader.readexactly(HEAD.size))
        body = await reader.readexactly(length - HEAD.size)
        if code not in (SSL_REQUEST, GSS_REQUEST):
            words = body.decode().split("\0")
            return code, dict(zip(words[0:-2:2], words[1:-2:2], strict=True))
        writer.write(b"N")


async def _repeat_password(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"R" + HEAD.pack(8, 3))  # in clear text
    _, length = struct.unpack("!ci", await reader.readexactly(5))
    password = (await reader.readexactly(length - 4)).rstrip(b"\0").decode()
    writer.write(_make_refusal(f"nobody has the password {password}"))


def _make_packet(code: int, asked: dict[str, str]) -> bytes:
    body = "".join(f"{name}\0{value}\0" for name, value in asked.items()).encode() + b"\0"
    return HEAD.pack(len(body) + HEAD.size, code) + body


def _make_refusal(message: str) -> bytes:
    body = f"SFATAL\0C08P01\0M{message}\0\0".encode()
    return b"E" + struct.pack("!i", len(body) + 4) + body
