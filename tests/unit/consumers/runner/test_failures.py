"""Failures: which of them wait and which end; waits are bounded; an outage spends no attempt."""

import asyncio
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runner.failures import (
    Failure,
    RetryBackoff,
    Stopped,
    classify,
    retry_through_outages,
    wait_or_stop,
)
from outbox.errors import (
    AlreadyHandled,
    Contention,
    DependencyDown,
    Halted,
    InvalidInput,
    LeaseLost,
    SchemaBehind,
    StoreUnfit,
    build_rejection,
)

QUICK = RetryBackoff(first_seconds=0.0001, longest_seconds=0.0001)
FOREVER = RetryBackoff(first_seconds=3_600, longest_seconds=3_600)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (AlreadyHandled("1", None), Failure.DONE),
        (DependencyDown("kafka", "away"), Failure.DEPENDENCY),
        (Contention("deadlock"), Failure.DEPENDENCY),
        (build_rejection("schema", "name", "must be text"), Failure.MESSAGE),
        (ValueError("a bug"), Failure.UNEXPECTED),
        (ConnectionError("not translated"), Failure.UNEXPECTED),
        (TimeoutError(), Failure.UNEXPECTED),
        (LeaseLost("not a consumer's"), Failure.UNEXPECTED),
        (InvalidInput("replay", "id", "no message's"), Failure.UNEXPECTED),
        (StoreUnfit("no collection"), Failure.HALT),
        (SchemaBehind("a migration is missing"), Failure.HALT),
        (Halted("what comes next is gone"), Failure.HALT),
    ],
)
def test_each_failure_has_one_way_to_go_on(error: Exception, failure: Failure) -> None:
    assert classify(error) is failure


@given(first=st.floats(0.001, 10), times=st.floats(1, 1_000))
def test_waits_double_up_to_the_longest_and_at_most_half_is_jitter(
    first: float, times: float
) -> None:
    longest = first * times
    for number, wait in enumerate(islice(RetryBackoff(first, longest).waits(), 30)):
        whole = min(first * 2**number, longest)
        assert whole / 2 <= wait <= whole


def test_each_series_of_waits_starts_again() -> None:
    backoff = RetryBackoff(1, 1_000)
    list(islice(backoff.waits(), 8))
    assert next(backoff.waits()) <= 1


def test_waits_differ_so_that_consumers_do_not_return_together() -> None:
    assert len(set(islice(RetryBackoff(1, 1).waits(), 20))) > 1


@pytest.mark.anyio
async def test_a_pause_ends_at_its_time() -> None:
    await wait_or_stop(0, asyncio.Event())


@pytest.mark.anyio
async def test_a_pause_ends_at_once_when_asked_to_stop() -> None:
    stopping = asyncio.Event()
    paused = asyncio.create_task(wait_or_stop(3_600, stopping))
    stopping.set()
    async with asyncio.timeout(60):
        with pytest.raises(Stopped):
            await paused


class Work:
    """Fails with each of `errors` in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)


@pytest.mark.anyio
async def test_an_outage_of_any_length_spends_no_attempt() -> None:
    work = Work(*[DependencyDown("kafka", "away"), Contention("deadlock")] * 50)
    await retry_through_outages(work, QUICK, asyncio.Event())
    assert work.runs == 101


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        AlreadyHandled("1", None),
        build_rejection("a", "b", "c"),
        InvalidInput("a", "b", "c"),
        StoreUnfit("no collection"),
        SchemaBehind("a migration is missing"),
    ],
)
async def test_any_other_error_passes_at_once(error: Exception) -> None:
    work = Work(error)
    with pytest.raises(type(error)):
        await retry_through_outages(work, QUICK, asyncio.Event())
    assert work.runs == 1


@pytest.mark.anyio
async def test_an_outage_ends_when_asked_to_stop() -> None:
    stopping, tried = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        tried.set()
        raise DependencyDown("kafka", "away")

    waiting = asyncio.create_task(retry_through_outages(work, FOREVER, stopping))
    async with asyncio.timeout(60):
        await tried.wait()
        stopping.set()
        with pytest.raises(Stopped):
            await waiting
