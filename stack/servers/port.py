"""Port: free ports on the loopback interface."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import structlog

from stack.errors import PortTaken

log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"
ATTEMPTS = 5
PAUSE_SECONDS = 0.2

Ports = tuple[int, ...]


def free_ports(count: int) -> Ports:
    """Return different ports that were free a moment ago; another program may take them first."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return tuple(int(each.getsockname()[1]) for each in sockets)


async def start_on_ports(
    choose: Callable[[], Ports], start: Callable[[Ports], Awaitable[None]]
) -> Ports:
    """Start on the ports that `choose` gives, and return them.

    If one is taken it is tried again, ATTEMPTS times in all; then PortTaken is raised. `choose` may
    always give the same ports: a server that is started again keeps its address, and an outgoing
    connection of another program can hold that port for a moment.
    """
    for attempt in range(1, ATTEMPTS):
        ports = choose()
        try:
            await start(ports)
            return ports
        except PortTaken:
            log.warning("port_taken", ports=ports, attempt=attempt)
            await asyncio.sleep(PAUSE_SECONDS * attempt)
    ports = choose()
    await start(ports)
    return ports
