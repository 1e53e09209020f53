"""Drift: PostgreSQL's stream heads against what a projection's store really shows.

Weakness for now: both sides are held in memory, about 300 bytes a key.
"""

from typing import Any

import psycopg

from consumers.projection import Projection
from outbox.streams import Difference, compare, read_heads


async def check(connection: psycopg.AsyncConnection[Any], projection: Projection) -> Difference:
    """The keys that differ. The store is read first, so that it cannot be ahead of the heads.

    A scan that fails raises; it is never "in sync". While writers go on, keys that are still on
    their way show as missing or stale.
    """
    shown = [entry async for entry in projection.scan()]
    heads = await read_heads(connection, sorted(projection.aggregates))
    return compare(heads, shown)
