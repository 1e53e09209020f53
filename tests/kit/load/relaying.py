"""Relaying: what is committed gets to its topics, and nothing is left to be sent."""

from typing import Any

import psycopg

from outbox.relay.relay import Relay
from outbox.settings import Settings
from outbox.status import read_status
from tests.kit.load.roles import running
from tests.kit.waiting import until

WITHIN_SECONDS = 120.0

Connection = psycopg.AsyncConnection[Any]


async def nothing_pending(connection: Connection) -> bool:
    """Return whether all that is committed and not parked has been published."""
    return (await read_status(connection)).pending == 0


async def wait_until_relayed(connection: Connection, within_seconds: float) -> None:
    """Wait until some relay has published all that is committed."""
    await until(lambda: nothing_pending(connection), within_seconds, 0.02)


async def relay_all(settings: Settings, connection: Connection) -> None:
    """Run a relay until all that is committed is on its topic."""
    async with running(Relay(settings)):
        await wait_until_relayed(connection, WITHIN_SECONDS)
