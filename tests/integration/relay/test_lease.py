"""A term finds the relay's row where it was left, or by its name; an ended term finds none."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from consumers.settings import Settings
from outbox.cursor.cut import Snapshot
from outbox.cursor.lease import Lease, take_lease
from outbox.cursor.progress import Progress, advance, read_progress
from outbox.errors import LeaseLost
from outbox.postgres.connection import connect

pytestmark = pytest.mark.anyio

SECONDS = 600.0
STEPS = 100  # more versions of the row than fit on its page


@pytest.fixture
async def relay(settings: Settings) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await connect(settings) as connection:
        yield connection


async def taken(connection: psycopg.AsyncConnection, owner: str) -> Lease:
    lease = await take_lease(connection, owner, SECONDS)
    assert lease is not None
    return lease


async def go_on(connection: psycopg.AsyncConnection, lease: Lease, position: int) -> None:
    await advance(connection, lease, Progress(Snapshot.parse("3:3:"), None, position), [])


async def test_progress_is_kept_wherever_its_row_goes(relay: psycopg.AsyncConnection) -> None:
    """P18: also while a snapshot keeps every version of the row alive."""
    lease = await taken(relay, "one")
    places = set()
    for position in range(1, STEPS + 1):
        await go_on(relay, lease, position)
        places.add(lease.place)
    assert len(places) > 1
    assert (await read_progress(relay)).position == STEPS


async def test_a_row_that_somebody_has_moved_is_found_by_its_name(
    relay: psycopg.AsyncConnection, postgres: psycopg.AsyncConnection
) -> None:
    lease = await taken(relay, "one")
    for position in range(1, STEPS + 1):
        await go_on(relay, lease, position)
    await postgres.execute("VACUUM FULL outbox.relay")
    await go_on(relay, lease, STEPS + 1)
    assert (await read_progress(relay)).position == STEPS + 1


async def test_the_place_of_an_ended_term_is_nobodys(relay: psycopg.AsyncConnection) -> None:
    """M10: who has taken the lease since then has moved the row, or written it in that place."""
    lease = await taken(relay, "one")
    await go_on(relay, lease, 1)
    await lease.release(relay)
    other = await taken(relay, "two")
    other.place = lease.place
    await go_on(relay, other, 2)
    lease.place = other.place
    with pytest.raises(LeaseLost, match="term 1 has ended"):
        await go_on(relay, lease, 3)
    assert (await read_progress(relay)).position == 2
