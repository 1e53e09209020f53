"""Probe: a question that a server answers once it is ready."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from outbox.secret import without_secrets
from stack.errors import PartFailed

T = TypeVar("T")

PAUSE_SECONDS = 0.03  # between two questions; only an answer proves that a server is ready
CONNECT_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class Probe(Generic[T]):
    """`ask` returns the answer; it raises one of `not_yet` while the server is not ready."""

    ask: Callable[[], Awaitable[T]]
    not_yet: tuple[type[Exception], ...] = (OSError,)

    async def attempt(self) -> T | Exception:
        """Return the answer, or the error that says why there is none yet; raise any other."""
        try:
            return await self.ask()
        except self.not_yet as error:
            return error


async def answer_within(probe: Probe[T], seconds: float, who: str) -> T:
    """Ask a server that is not our child again and again, and return its answer.

    After `seconds` without one PartFailed is raised: it names `who`, and the last error.
    """
    last: Exception | None = None
    try:
        async with asyncio.timeout(seconds):
            while isinstance(answer := await probe.attempt(), Exception):
                last = answer
                await asyncio.sleep(PAUSE_SECONDS)
            return answer
    except TimeoutError:
        reason = without_secrets(str(last))
        raise PartFailed(f"{who} did not answer within {seconds:g} s: {reason}") from last


async def require_listener(host: str, port: int) -> None:
    """Return if something accepts a TCP connection there; raise OSError if nothing does."""
    async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
        _, writer = await asyncio.open_connection(host, port)
    writer.close()
    await writer.wait_closed()


def host_and_port(address: str, default_port: int) -> tuple[str, int]:
    """Return the host and the port of `host:port` or of a URL."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    return parts.hostname or "127.0.0.1", parts.port or default_port
