"""The dead letters that still need an operator."""

from dataclasses import asdict
from typing import Any

import psycopg

from consumers.dead_letters.listing import list_letters
from outbox.settings import Settings


async def list_dead_letters(settings: Settings, limit: int) -> list[dict[str, Any]]:
    """Return the oldest `limit` of all consumers, as `dead-letters list --json` shows them."""
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as connection:
        return [asdict(each) for each in await list_letters(connection, limit=limit)]
