"""Bodies and request headers that no honest client sends: H3.

Each is answered, or its connection ends, at little cost.
"""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from consumers.settings import Settings
from stack.servers.port import free_ports
from tests.kit.load.role import Role
from tests.kit.web.served import RawClient, created, creation, lives, request, served

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
LIMIT_SECONDS = 2.0  # a busy machine reads request headers within it
WITHIN_SECONDS = 60.0
CLIENTS = 20
SENT_MIB = 32  # what a client sends if it is not stopped
PIECE = b"10000\r\n" + b" " * 65_536 + b"\r\n"


def chunked(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request whose body comes in chunks, without an end."""
    return request(method, path, body, Content_Length="", Transfer_Encoding="chunked", **headers)


def reason(body: bytes) -> str:
    return str(json.loads(body)["type"]).rpartition(":")[2]


REFUSED = {
    "too long by its own account": (
        request("POST", "/catalogs", Content_Length=str(2 * MIB), Idempotency_Key="k"),
        413,
        "too-large",
    ),
    "too long, in chunks": (
        chunked("POST", "/catalogs", PIECE * 17),
        413,
        "too-large",
    ),
    "too long for a GET": (
        chunked("GET", "/livez", PIECE * 17),
        413,
        "too-large",
    ),
    "gzip": (
        request("POST", "/catalogs", gzip.compress(bytes(MIB)), Content_Encoding="gzip"),
        415,
        "encoding",
    ),
    "never whole": (
        request("POST", "/catalogs", b"{", Content_Length="2", Idempotency_Key="k"),
        408,
        "too-slow",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_such_a_body_is_answered_and_its_connection_ends(
    settings: Settings, postgres: psycopg.AsyncConnection, what: str
) -> None:
    """H3: otherwise the rest of the body could be read as another request."""
    data, status, why = REFUSED[what]
    async with served(settings, body_timeout_seconds=LIMIT_SECONDS) as service:
        client = await RawClient.to(service.port)
        await client.say(data)
        async with asyncio.timeout(WITHIN_SECONDS):
            answered, body = await client.answer()
            assert (answered, reason(body)) == (status, why)
            await client.say(creation("smuggled"))
            assert await client.hear() == b""
        await client.close()
    assert await created(postgres) == {}


async def test_a_byte_a_moment_is_answered_by_408(settings: Settings) -> None:
    """H3: the limit is on the whole body, not on the pause between two bytes."""
    async with served(settings, body_timeout_seconds=LIMIT_SECONDS) as service:
        client = await RawClient.to(service.port)
        await client.say(request("POST", "/catalogs", Content_Length="1000000"))
        saying = asyncio.create_task(drip(client))
        async with asyncio.timeout(WITHIN_SECONDS):
            status, body = await client.answer()
        saying.cancel()
        await client.close()
    assert (status, reason(body)) == (408, "too-slow")


async def drip(client: RawClient) -> None:
    while True:
        await client.say(b" ")
        await asyncio.sleep(LIMIT_SECONDS / 10)


async def test_a_head_that_does_not_come_ends_the_connection(settings: Settings) -> None:
    """H3: whether nothing came, or a part, or a whole request before it."""
    whole = request("GET", "/livez")
    async with served(settings, request_headers_timeout_seconds=LIMIT_SECONDS) as service:
        for before in (b"", whole[:10], whole[:-2], whole + whole[:10]):
            client = await RawClient.to(service.port)
            await client.say(before)
            async with asyncio.timeout(WITHIN_SECONDS):
                heard = await client.hear()
            assert heard.startswith(b"HTTP/1.1 200") is before.startswith(whole)
            await client.close()


async def test_a_head_that_comes_in_time_is_served_however_long_the_body_takes(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """H3: the limit on the headers does not limit the body."""
    async with served(settings, request_headers_timeout_seconds=LIMIT_SECONDS) as service:
        client = await RawClient.to(service.port)
        data = creation("patient")
        await client.say(data[:-3])
        await asyncio.sleep(2 * LIMIT_SECONDS)
        await client.say(data[-3:])
        async with asyncio.timeout(WITHIN_SECONDS):
            status, _ = await client.answer()
        await client.close()
    assert status == 201
    assert await created(postgres) == {"patient": (1, 1)}


Attack = Callable[[RawClient], Awaitable[None]]


async def endless(client: RawClient) -> None:
    await client.say(chunked("POST", "/catalogs"))
    for _ in range(SENT_MIB * 16):
        await client.say(PIECE)


async def endless_head(client: RawClient) -> None:
    await client.say(b"GET /livez HTTP/1.1\r\n")
    for _ in range(SENT_MIB * 16):
        await client.say(b"X-Endless: " + b"x" * 65_000 + b"\r\n")


async def endless_after_the_answer(client: RawClient) -> None:
    """The path is unknown, so the answer comes while the body is still being sent."""
    await client.say(chunked("POST", "/nowhere", Content_Encoding="br"))
    for _ in range(SENT_MIB * 16):
        await client.say(PIECE)


ATTACKS: tuple[Attack, ...] = (endless, endless_head, endless_after_the_answer)


async def test_endless_requests_cost_no_memory(settings: Settings) -> None:
    """H3: twenty of each kind at once, each sending for as long as the server lets it."""
    own = settings.model_copy(update={"http_port": free_ports(1)[0]})
    async with Role("http", own) as service:
        await lives(own.http_port)
        before = service.rss_bytes()
        for attack in ATTACKS:
            async with asyncio.timeout(WITHIN_SECONDS):
                await asyncio.gather(*(one(own.http_port, attack) for _ in range(CLIENTS)))
        await lives(own.http_port)
        grown = service.rss_bytes() - before
    assert grown < CLIENTS * SENT_MIB * MIB / 3, grown


async def one(port: int, attack: Attack) -> None:
    client = await RawClient.to(port)
    await attack(client)
    await client.close()
