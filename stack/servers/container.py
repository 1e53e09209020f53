"""Container: a server from its pinned image, where a Docker engine answers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import structlog

from stack.errors import PartFailed, PartMissing
from stack.process.shield import run_to_end
from stack.servers.port import LOOPBACK

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

log = structlog.get_logger(__name__)

ENGINE_TIMEOUT_SECONDS = 5
DEFAULT_ENGINE = "unix:///var/run/docker.sock"


@dataclass(frozen=True, kw_only=True)
class Image:
    """What to run: a tag that never moves, the port inside, and the server's settings."""

    name: str
    port: int
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


async def engine_answers() -> bool:
    """Return whether a Docker engine answers, and the package that talks to it is installed."""
    try:
        await asyncio.to_thread(_require_engine)
    except PartMissing as absent:
        log.debug("no_engine", reason=str(absent))
        return False
    return True


@asynccontextmanager
async def container(image: Image, port: int) -> AsyncIterator[None]:
    """Run the image, published at `port` of the loopback interface, for the length of the block.

    It has been started then, and need not answer yet. PartMissing is raised without an engine, and
    PartFailed if the engine refuses. The container is removed with its data at the end of the
    block; after a kill -9 of our process testcontainers' own helper container removes it.

    Weaknesses: the engine must be on this machine, since the port is published on the loopback
    interface only; and the helper publishes a port on every interface.
    """
    await asyncio.to_thread(_require_engine)
    from testcontainers.core.container import DockerContainer  # an extra, and slow to import

    running = DockerContainer(image.name, env=dict(image.environment))
    if image.command:
        running.with_command(list(image.command))
    # Docker takes an address beside the port; the declared type knows the port only.
    running.ports = cast("dict[str, int | None]", {f"{image.port}/tcp": (LOOPBACK, port)})
    try:
        await _start(running)
        yield
    finally:
        await run_to_end(asyncio.to_thread(running.stop))


async def _start(running: "DockerContainer") -> None:
    from docker.errors import DockerException

    log.info("starting_container", image=running.image)
    try:
        await run_to_end(asyncio.to_thread(running.start))
    except (DockerException, OSError, RuntimeError) as error:
        raise PartFailed(f"the image {running.image} could not be started: {error}") from error


def _require_engine() -> None:
    """Raise PartMissing if no engine answers."""
    try:
        from docker.errors import DockerException
        from testcontainers.core.docker_client import DockerClient, get_docker_host
    except ImportError as error:
        raise PartMissing("no containers: install aftercommit[stack]") from error
    try:
        _require_listener(get_docker_host() or DEFAULT_ENGINE)
        client = DockerClient(timeout=ENGINE_TIMEOUT_SECONDS).client
    except (DockerException, OSError) as error:  # it asks for the engine's version at once
        raise PartMissing(f"no Docker engine answers: {error}") from error
    client.close()


def _require_listener(host: str) -> None:
    """Raise OSError if nothing accepts at a Unix socket: docker's client would leave it open."""
    parts = urlsplit(host)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as ours:
            ours.settimeout(ENGINE_TIMEOUT_SECONDS)
            ours.connect(parts.path)
