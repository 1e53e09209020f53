"""What the tests of units of work share; a module that wants another database defines it."""

from collections.abc import AsyncIterator

import pytest

from outbox.write.database import Database
from tests.kit.orders import Connection, open_orders


@pytest.fixture
async def database(postgres_url: str, postgres: Connection) -> AsyncIterator[Database]:
    """A database with a table of orders, whose pool has one connection."""
    async with open_orders(postgres_url, postgres) as database:
        yield database
