"""I2-I4, P1, P2, P4, P5, P7: nothing lost, nothing doubled, no key reordered, under writers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import pytest

from consumers.settings import Settings
from outbox.relay.relay import Relay
from tests.conftest import Servers
from tests.kit.load.length import times
from tests.kit.planted.planted_readers import PlantedRelay, PositionCursor, TransactionHorizon
from tests.kit.verdicts.history import (
    Seen,
    Verdict,
    committed,
    judge,
    subscribe,
    unrelated_transactions,
    write,
)

pytestmark = pytest.mark.anyio

TRANSACTIONS = times(8_000, 200_000, faults=20_000)


class Runs(Protocol):
    async def run(self) -> None: ...


@asynccontextmanager
async def running(relay: Runs, settings: Settings, seen: Seen) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(relay.run()), asyncio.create_task(subscribe(settings, seen))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def all_seen(settings: Settings, seen: Seen, within_seconds: float) -> None:
    """Return once everything that is committed was seen, or time is up."""
    truth = await committed(settings.libpq_url())
    with suppress(TimeoutError):
        async with asyncio.timeout(within_seconds):
            while not truth <= seen.times.keys():  # noqa: ASYNC110 - the broker's, not ours
                await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_eight_writers_beside_open_transactions_lose_double_and_reorder_nothing(
    settings: Settings, servers: Servers
) -> None:
    """FD8: a term that a busy machine has ended may cost unaltered duplicates, and nothing else."""
    seen = Seen()
    async with running(Relay(settings), settings, seen):
        async with unrelated_transactions(settings.libpq_url(), servers.postgres_url):
            await write(settings, transactions=TRANSACTIONS, seed=1)
            # Everything arrives while the unrelated transactions are still open: no stall.
            await all_seen(settings, seen, within_seconds=120)
        verdict = judge(await committed(settings.libpq_url()), seen)
    assert verdict.committed > TRANSACTIONS
    assert verdict.right, verdict


async def planted_verdict(relay: PlantedRelay, settings: Settings) -> Verdict:
    seen = Seen()
    async with running(relay, settings, seen):
        async with unrelated_transactions(settings.libpq_url()):
            await write(settings, transactions=3_200, seed=2)
        await all_seen(settings, seen, within_seconds=5)
        return judge(await committed(settings.libpq_url()), seen)


async def test_a_cursor_on_position_is_caught_losing(settings: Settings) -> None:
    """M01."""
    verdict = await planted_verdict(PlantedRelay(settings, PositionCursor()), settings)
    assert not verdict.right
    assert verdict.lost > 0


async def test_a_transaction_horizon_is_caught_reordering(settings: Settings) -> None:
    """M02."""
    verdict = await planted_verdict(PlantedRelay(settings, TransactionHorizon()), settings)
    assert not verdict.right
    assert verdict.reordered > 0
