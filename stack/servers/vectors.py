"""Qdrant: the server at QDRANT_URL, or one in a container, or qdrant-client's local mode."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from outbox.errors import DependencyDown
from services import qdrant
from stack.errors import PartFailed
from stack.part import VectorsPart
from stack.process.probe import Probe, answer_within
from stack.servers.container import Image, container, engine_answers
from stack.servers.port import LOOPBACK, free_ports
from stack.settings import StackSettings

MEMORY = ":memory:"
IMAGE = "qdrant/qdrant:v1.19.1"
PORT = 6333
TIMEOUT_SECONDS = 10
FILE = "file:"


@asynccontextmanager
async def vectors(
    folder: Path | None, settings: StackSettings | None = None
) -> AsyncIterator[VectorsPart]:
    """Open vectors for the length of the block.

    That is the server at QDRANT_URL, or one in a container where STACK_QDRANT says so; else local
    mode below `folder`, or in memory if `folder` is None.

    Local mode runs inside the process that connects, so there is nothing to start or stop here.
    Its weaknesses: it holds a lock on its folder, so **one process, one client** may use it; it
    searches without an index; it is a stand-in for some ten thousand points.
    """
    settings = settings or StackSettings()
    wanted = settings.qdrant_provider
    if settings.qdrant_url:
        yield await remote(settings.qdrant_url, settings, "environment QDRANT_URL")
    elif wanted == "docker" or (wanted == "best" and await engine_answers()):
        (port,) = free_ports(1)
        async with container(Image(name=IMAGE, port=PORT), port):
            yield await remote(f"http://{LOOPBACK}:{port}", settings, f"image {IMAGE}")
    else:
        yield local(folder)


async def remote(url: str, settings: StackSettings, provider: str) -> VectorsPart:
    """Return the server at a URL, once it lists its collections."""
    part = VectorsPart(
        name="qdrant",
        provider=provider,
        url=url,
        api_key=settings.qdrant_api_key,
        stand_in=url == MEMORY or url.startswith(FILE),
    )
    probe = Probe(lambda: ask(part), (OSError, ResponseHandlingException, UnexpectedResponse))
    await answer_within(probe, settings.ready_timeout_seconds, f"Qdrant ({provider})")
    return part


def local(folder: Path | None) -> VectorsPart:
    """Return local mode in a folder of the run, or in memory."""
    url = MEMORY if folder is None else f"{FILE}{folder.resolve() / 'qdrant'}"
    return VectorsPart(
        name="qdrant", provider="qdrant-client local mode (stand-in)", url=url, stand_in=True
    )


def connect(part: VectorsPart) -> AsyncQdrantClient:
    """Return a client, which the caller closes. In memory, each client has data of its own."""
    key = part.api_key.get_secret_value() if part.api_key else None
    return qdrant.connect(part.url, key, TIMEOUT_SECONDS)


async def ask(part: VectorsPart) -> None:
    """List the collections; PartFailed if local mode's folder cannot be used."""
    try:
        client = connect(part)
    except DependencyDown as error:  # local mode's folder: waiting does not repair it
        raise PartFailed(str(error)) from error
    try:
        await client.get_collections()
    finally:
        await client.close()
