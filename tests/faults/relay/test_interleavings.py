"""P1, P2, P7, G5, I1-I4: two writers and a relay that polls once, in every interleaving of steps.

Beside that poll there is a drain at the end. A topic in memory stands for Kafka; PostgreSQL, the
writers' statements and the whole relay up to its port to Kafka are real.
"""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from stack.servers.postgres import ask
from tests.kit.load.interleavings import Reader, Sweep
from tests.kit.load.length import times
from tests.kit.load.schedules import MOMENTS, Tally, all_schedules, orders, some_schedules
from tests.kit.load.seed import seed
from tests.kit.load.units import ONE, SEVERAL, SQL, TWICE, Unit
from tests.kit.planted.planted_patches import drawn_before_the_lock, ordered_by_creation
from tests.kit.planted.planted_readers import PositionCursor, TransactionHorizon
from tests.kit.planted.planted_units import EARLY_MESSAGE, SECOND_TRANSACTION
from tests.kit.planted.planted_workers import SkipLockedWorkers
from tests.kit.servers.cluster import Cluster, running_cluster
from tests.kit.verdicts.readers import PausedReader, PlantedSide, TermReader

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(3_600)]

SEED = seed(5)
ALL = len(all_schedules())
SAMPLE = times(250, ALL, faults=500)
LEGAL_ORDERS = 420  # what the shared key's lock leaves of 924: whoever publishes it first, commits
UNITS = (SEVERAL, SQL)

Tell = Callable[[str], None]
Opened = AbstractAsyncContextManager[Reader]


class SweepSample(Protocol):
    """Sweeps some schedules over a reader, and adds to the report what was drawn and seen."""

    async def __call__(
        self, opened: Opened, units: tuple[Unit, Unit] = UNITS, isolation: str = "read committed"
    ) -> Tally: ...


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """Start a cluster of our own: nobody else has transactions there, and commits need no disk."""
    async with running_cluster() as cluster:
        yield cluster


@pytest.fixture
async def url(cluster: Cluster) -> str:
    """Make a migrated database for this test."""
    name = f"test_{secrets.token_hex(6)}"
    await ask(cluster.database("postgres"), f"CREATE DATABASE {name} TEMPLATE aftercommit")
    return cluster.database(name)


@pytest.fixture
def sweep_sample(url: str, tell: Tell) -> SweepSample:
    """Sweep some of the schedules; all of them with LONG=1."""

    async def swept(
        opened: Opened, units: tuple[Unit, Unit] = UNITS, isolation: str = "read committed"
    ) -> Tally:
        async with opened as reader, Sweep.over(url, units, reader, isolation) as sweep:
            tally = await sweep.run(some_schedules(SAMPLE, SEED))
        tell(f"seed {SEED}, {tally}")
        return tally

    return swept


def test_there_are_924_orders_and_13_moments() -> None:
    """G5."""
    assert len(orders()) == len(set(orders())) == 924
    assert len(set(all_schedules())) == 924 * 13 == 12_012


async def test_in_a_sample_of_interleavings_nothing_is_lost_doubled_reordered_or_torn(
    url: str, sweep_sample: SweepSample
) -> None:
    """G5, P1, P2."""
    tally = await sweep_sample(TermReader.over(url))
    assert not tally.wrong, tally.examples
    assert tally.waited > 0


@pytest.mark.faults_only
async def test_in_every_interleaving_nothing_is_lost_doubled_reordered_or_torn(
    url: str, tell: Tell
) -> None:
    """G5, P1, P2: all 12,012 schedules."""
    async with TermReader.over(url) as reader, Sweep.over(url, UNITS, reader) as sweep:
        tally = await sweep.run(all_schedules())
    tell(f"{tally}; {len(tally.legal):,} of them different, {tally.waited:,} waits for the head")
    assert not tally.wrong, tally.examples
    assert tally.schedules == ALL
    assert len({schedule.order for schedule in tally.legal}) == LEGAL_ORDERS
    assert len(tally.legal) == LEGAL_ORDERS * MOMENTS
    assert tally.waited == 504 * MOMENTS, "each order that the lock forbids has waited for it"


async def test_cuts_that_are_sent_in_pages_and_left_half_way_are_right_too(
    url: str, sweep_sample: SweepSample
) -> None:
    """G5: the poll sends one message of its cut; the rest of it follows at the end."""
    tally = await sweep_sample(TermReader.over(url, page_messages=1), (ONE, SEVERAL))
    assert not tally.wrong, tally.examples


async def test_a_cut_that_is_read_long_after_its_snapshot_is_right_too(
    url: str, sweep_sample: SweepSample
) -> None:
    """G5: both writers commit between the snapshot and the reading."""
    tally = await sweep_sample(PausedReader.over(url))
    assert not tally.wrong, tally.examples


# What waits for the head while its holder says the same key again: each of the three statements.
WAITING = {"one message": ONE, "several messages": SEVERAL, "outbox.publish": SQL}


@pytest.mark.parametrize("waiting", WAITING.values(), ids=WAITING)
async def test_what_has_waited_for_a_head_stands_behind_all_that_its_holder_has_said(
    url: str, sweep_sample: SweepSample, tell: Tell, waiting: Unit
) -> None:
    """G5, I4: it gets another position than the one that it drew before it waited."""
    tally = await sweep_sample(TermReader.over(url), (TWICE, waiting))
    tell(f"{tally.waited:,} waits for the head")
    assert not tally.wrong, tally.examples
    assert tally.waited > 0


@pytest.mark.parametrize("waiting", [ONE, SEVERAL], ids=["one message", "several messages"])
async def test_a_position_that_is_drawn_before_the_lock_is_caught_reordering(
    url: str, sweep_sample: SweepSample, waiting: Unit
) -> None:
    """M16."""
    with drawn_before_the_lock():
        tally = await sweep_sample(TermReader.over(url), (TWICE, waiting))
    assert tally.wrong.keys() == {"reordered"}


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_writers_that_are_isolated_more_repeat_themselves_and_are_right_too(
    url: str, sweep_sample: SweepSample, tell: Tell, isolation: str
) -> None:
    """G5, P8."""
    tally = await sweep_sample(TermReader.over(url), isolation=isolation)
    tell(f"{tally.repeated:,} units repeated")
    assert not tally.wrong, tally.examples
    assert tally.repeated > 0


async def test_a_position_cursor_is_caught_losing(url: str, sweep_sample: SweepSample) -> None:
    """M01, P1."""
    tally = await sweep_sample(PlantedSide.over(url, PositionCursor()))
    assert tally.wrong.keys() == {"lost"}


async def test_a_transaction_horizon_is_caught_reordering(
    url: str, sweep_sample: SweepSample
) -> None:
    """M02, P2."""
    tally = await sweep_sample(PlantedSide.over(url, TransactionHorizon()))
    assert tally.wrong["reordered"] > 0  # and whatever stalls behind an autovacuum is late


async def test_workers_that_skip_locked_rows_are_caught_reordering(
    url: str, sweep_sample: SweepSample
) -> None:
    """M07."""
    tally = await sweep_sample(SkipLockedWorkers.over(url))
    assert tally.wrong.keys() == {"reordered"}


async def test_an_order_of_creation_is_caught_reordering(
    url: str, sweep_sample: SweepSample
) -> None:
    """M21."""
    with ordered_by_creation():
        tally = await sweep_sample(TermReader.over(url))
    assert tally.wrong.keys() == {"reordered"}


async def test_a_message_that_is_inserted_before_the_lock_is_caught_reordering(
    url: str, sweep_sample: SweepSample
) -> None:
    """M16, P3."""
    tally = await sweep_sample(TermReader.over(url), (EARLY_MESSAGE, EARLY_MESSAGE))
    assert tally.wrong.keys() == {"reordered"}


async def test_an_outbox_in_a_second_transaction_is_caught_torn(
    url: str, sweep_sample: SweepSample
) -> None:
    """M11, I1: a crash between the two transactions would leave the row without its event."""
    tally = await sweep_sample(TermReader.over(url), (SECOND_TRANSACTION, SQL))
    assert tally.wrong.keys() == {"torn"}
