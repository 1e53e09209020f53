"""Nobody reads the logs, or the disk that they go to is full: O7.

Before logs had a thread of their own, the first line that found its pipe full stopped the process
for ever, in the middle of its event loop.
"""

import asyncio
import json
import os
from collections import Counter

import httpx
import pytest

from consumers.settings import Settings
from stack.servers.port import LOOPBACK, free_ports
from tests.kit.load.load import commit_events
from tests.kit.load.role import Role
from tests.kit.proxies.mute import mute_pipe
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until
from tests.kit.web.caller import ask

pytestmark = pytest.mark.anyio

REQUESTS = 200
QUEUE_BYTES = 4096
WITHIN_SECONDS = 60.0


async def test_a_relay_whose_log_nobody_reads_publishes_and_ends(
    settings: Settings, witness: Witness
) -> None:
    """O7, G22: the pipe is full from the first line on."""
    await commit_events(settings, 100)
    with mute_pipe() as pipe:
        relay = Role("relay", settings, standard_error=pipe.into)
        await relay.start()
        try:
            verdict = await witness.saw_all()
        finally:
            await relay.terminate()
    assert verdict.right, verdict
    assert verdict.committed == 100


async def test_a_service_whose_log_nobody_reads_serves_and_counts_what_it_drops(
    settings: Settings,
) -> None:
    """O7: the lines written and the lines dropped are together as many as the requests."""
    own = with_port(settings).model_copy(update={"log_queue_bytes": QUEUE_BYTES})
    with mute_pipe() as pipe:
        role = Role("http", own, standard_error=pipe.into)
        await role.start()
        try:
            await serves(own, REQUESTS)
        finally:
            reading = asyncio.create_task(asyncio.to_thread(pipe.rest))
            await role.terminate()
        lines = [json.loads(line) for line in (await reading).splitlines()]
    said = Counter(line["event"] for line in lines)
    dropped = sum(line["lines"] for line in lines if line["event"] == "log lines dropped")
    assert said["committed"] + dropped == REQUESTS
    assert dropped > REQUESTS / 2


async def test_a_service_whose_log_is_on_a_full_disk_serves(settings: Settings) -> None:
    """O7: each write of a line fails."""
    own = with_port(settings)
    full = os.open("/dev/full", os.O_WRONLY)
    async with Role("http", own, standard_error=full):
        os.close(full)
        await serves(own, 20)


async def test_a_service_whose_log_is_closed_serves(settings: Settings) -> None:
    """O7: the reader of the pipe has ended; EPIPE answers each write."""
    own = with_port(settings)
    out, into = os.pipe()
    async with Role("http", own, standard_error=into):
        os.close(into)
        os.close(out)
        await serves(own, 20)


def with_port(settings: Settings) -> Settings:
    (port,) = free_ports(1)
    return settings.model_copy(update={"http_port": port})


async def serves(settings: Settings, requests: int) -> None:
    """Assert that the service answers so many requests, each with success."""
    url = f"http://{LOOPBACK}:{settings.http_port}"
    async with httpx.AsyncClient(base_url=url, timeout=WITHIN_SECONDS) as client:
        await until(lambda: lives(client), WITHIN_SECONDS)
        for number in range(requests):
            response = await ask(client, number)
            assert response.is_success, response.text


async def lives(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/livez")).is_success
    except httpx.TransportError:
        return False
