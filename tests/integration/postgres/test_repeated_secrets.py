"""FC4: if a server repeats the secret that it was given, no error of ours shows it.

That holds wherever the secret came from: an address, a variable or a file of libpq, or the key of a
store. Such servers are proxies that print the request on their error page, and patched or hostile
servers.
"""

import asyncio
import json
import logging
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
import structlog
from pydantic import SecretStr

from consumers.neo4j import client
from consumers.qdrant import errors
from consumers.settings import Settings
from outbox.errors import DependencyDown
from outbox.postgres.connection import connect
from outbox.runtime.logs import configure
from outbox.secret import without_secrets
from services.assembly import qdrant
from tests.kit.operations.command_line import run as command

pytestmark = pytest.mark.anyio

CANARY = "cAn4ry"
LENGTH = struct.Struct("!I")
WANTS_TLS = (80_877_103, 80_877_104)
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[int]:
    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answered, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def packet(reader: asyncio.StreamReader) -> bytes:
    (size,) = LENGTH.unpack(await reader.readexactly(4))
    return await reader.readexactly(size - 4)


async def postgres_that_repeats(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that asks for the password in plain text, and repeats it in its refusal."""
    while LENGTH.unpack_from(await packet(reader))[0] in WANTS_TLS:
        writer.write(b"N")
    writer.write(b"R" + LENGTH.pack(8) + LENGTH.pack(3))
    await reader.readexactly(1)
    message = b"not your password: " + (await packet(reader)).rstrip(b"\0")
    refusal = b"SFATAL\0VFATAL\0C28P01\0M" + message + b"\0D" + message + b"\0\0"
    writer.write(b"E" + LENGTH.pack(len(refusal) + 4) + refusal)
    await writer.drain()


@pytest.fixture(params=["url", "keywords", "PGPASSWORD", "PGPASSFILE", "service"])
def address_for(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], str]:
    """Return the address by which a server at this port gets the canary."""

    def at(port: int) -> str:
        where = f"host=127.0.0.1 port={port} dbname=d user=u"
        file = tmp_path / "file"
        match request.param:
            case "url":
                return f"postgresql://u:{CANARY}@127.0.0.1:{port}/d"
            case "keywords":
                return f"{where} password='{CANARY}'"
            case "PGPASSWORD":
                monkeypatch.setenv("PGPASSWORD", CANARY)
            case "PGPASSFILE":
                file.write_text(f"*:*:*:*:{CANARY}\n")
                file.chmod(0o600)
                monkeypatch.setenv("PGPASSFILE", str(file))
            case _:
                words = where.replace(" ", "\n")
                file.write_text(f"[s]\n{words}\npassword={CANARY}\n")
                monkeypatch.setenv("PGSERVICEFILE", str(file))
                return "service=s"
        return where

    return at


async def test_what_postgres_repeats_is_shown_by_no_command(
    settings: Settings, address_for: Callable[[int], str]
) -> None:
    async with serving(postgres_that_repeats) as port:
        own = settings.model_copy(update={"postgres_url": SecretStr(address_for(port))})
        with pytest.raises(psycopg.OperationalError) as refused:
            await connect(own)
        output = "".join(traceback.format_exception(refused.value))
        assert "not your password: ***" in output
        assert CANARY not in output
        for words in (("outbox", "status"), ("outbox", "doctor", "--json")):
            ran = await asyncio.to_thread(command, own, *words)
            assert "not your password: ***" in ran.stdout + ran.stderr
            assert CANARY not in ran.stdout + ran.stderr


def page_with_the_request(status: int, as_qdrant: bool) -> Handle:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # So much text before the key that cutting an answer would cut the key in two.
        sent = (await reader.readuntil(b"\r\n\r\n")).decode().replace("\r\n", " ")
        body = json.dumps({"status": {"error": sent}}) if as_qdrant else f"<html>{sent}</html>"
        head = f"HTTP/1.1 {status} No\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()

    return handle


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 503])
@pytest.mark.parametrize("as_qdrant", [True, False])
@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
async def test_what_a_proxy_before_qdrant_repeats_is_in_no_error(
    settings: Settings, status: int, as_qdrant: bool
) -> None:
    async with serving(page_with_the_request(status, as_qdrant)) as port:
        client = qdrant(
            settings.model_copy(
                update={
                    "qdrant_url": f"http://127.0.0.1:{port}",
                    "qdrant_api_key": SecretStr(CANARY),
                }
            )
        )
        try:
            with (
                pytest.raises((DependencyDown, errors.QdrantRefused)) as failed,
                errors.translate_errors(),
            ):
                await client.get_collections()
        finally:
            await client.close()
    assert "***" in str(failed.value)
    assert CANARY not in str(failed.value)


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_a_traceback_in_a_log_shows_no_key_that_led_to_it(
    log_format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    await client.connect("bolt://127.0.0.1:1", "u", CANARY).close()
    writer = configure(log_format, "info")
    try:
        raise ValueError(f"the server said: {CANARY}")
    except ValueError:
        structlog.get_logger().exception("unexpected error")
        logging.getLogger("a.library").exception("unexpected error")
    writer.flush(5)
    configure("console", "error")
    output = capfd.readouterr().err
    assert output.count("the server said: ***") == 2
    assert CANARY not in output


async def test_a_secret_that_every_other_word_holds_is_left_alone() -> None:
    await client.connect("bolt://127.0.0.1:1", "u", "a").close()
    assert without_secrets("a database") == "a database"
