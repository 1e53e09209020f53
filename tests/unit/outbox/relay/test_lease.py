"""The lease's deadline is always earlier than the database's, whatever happens in between."""

from dataclasses import dataclass
from typing import Any, cast

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.cursor.lease import Lease
from outbox.errors import LeaseLost

NO_CONNECTION = cast("psycopg.AsyncConnection[Any]", None)


@dataclass
class Clock:
    """A clock that shows what it is set to."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def lease(clock: Clock, seconds: float = 10.0) -> Lease:
    return Lease("owner", term=1, seconds=seconds, since=clock.now, clock=clock)


def test_a_lease_is_ours_for_half_of_its_time() -> None:
    clock = Clock()
    held = lease(clock)
    assert held.until == 105.0
    clock.now = 104.9
    held.require()
    assert held.remaining() == pytest.approx(0.1)


@pytest.mark.parametrize("now", [105.0, 105.1, 110.0, 1_000_000.0])
def test_at_its_deadline_and_after_it_a_lease_is_lost(now: float) -> None:
    clock = Clock()
    held = lease(clock)
    clock.now = now
    with pytest.raises(LeaseLost, match="term 1"):
        held.require()


def test_time_counts_from_before_the_request_was_sent() -> None:
    clock = Clock(now=104.0)  # the answer took four seconds
    held = Lease("owner", term=1, seconds=10.0, since=100.0, clock=clock)
    assert held.remaining() == 1.0


def test_an_extension_counts_from_when_it_was_asked_for() -> None:
    clock = Clock()
    held = lease(clock)
    clock.now = 109.0
    held.extend(since=103.0)
    assert held.until == 108.0
    with pytest.raises(LeaseLost):
        held.require()


@pytest.mark.anyio
@pytest.mark.parametrize("now", [100.0, 101.0, 102.4])
async def test_a_fresh_lease_is_not_renewed(now: float) -> None:
    clock = Clock()
    held = lease(clock)
    clock.now = now
    await held.renew_when_due(NO_CONNECTION)  # it needs no connection, so it sends nothing
    assert held.until == 105.0


@pytest.mark.anyio
@pytest.mark.parametrize("now", [102.5, 104.0])
async def test_half_way_to_the_deadline_the_database_is_asked(now: float) -> None:
    clock = Clock()
    held = lease(clock)
    clock.now = now
    with pytest.raises(AttributeError):  # it tried to send something without a connection
        await held.renew_when_due(NO_CONNECTION)


@given(
    seconds=st.floats(1, 1_000),
    asked=st.floats(0, 1_000),
    answered_after=st.floats(0, 1_000),
    used_after=st.floats(0, 2_000),
)
def test_whenever_a_lease_may_be_used_the_database_still_holds_it(
    seconds: float, asked: float, answered_after: float, used_after: float
) -> None:
    clock = Clock(asked + answered_after)
    held = Lease("owner", 1, seconds, since=asked, clock=clock)
    clock.now += used_after
    earliest_expiry = asked + seconds  # the server cannot have answered before it was asked
    if held.remaining() > 0:
        assert clock.now < earliest_expiry
