"""RateLimit: the rate is kept, and unused time is not saved up."""

import pytest

from outbox.runtime.rate_limit import RateLimit

pytestmark = pytest.mark.anyio


class Clock:
    """A stand-in for the clock that goes on only by `sleep`, or when a test sets `now`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_so_many_take_as_long_as_the_rate_says() -> None:
    clock = Clock()
    rate = RateLimit(100, clock, clock.sleep)
    for _ in range(250):
        await rate.spend(1)
    assert clock.now == pytest.approx(2.5, abs=0.02)


async def test_time_that_passed_unused_is_not_saved_up() -> None:
    clock = Clock()
    rate = RateLimit(100, clock, clock.sleep)
    clock.now = 60.0
    await rate.spend(100)
    assert clock.now == pytest.approx(61.0)


async def test_saved_time_makes_up_for_work_and_for_no_outage() -> None:
    clock = Clock()
    rate = RateLimit(100, clock, clock.sleep, saved_seconds=1.0)
    for _ in range(10):  # each page takes as long to send as the rate allows for half of it
        clock.now += 0.25
        await rate.spend(50)
    assert clock.now == pytest.approx(5.0)
    clock.now += 60.0
    assert rate.delay_after(50) == 0.0
    assert rate.delay_after(100) == pytest.approx(0.5)


async def test_without_a_limit_it_never_waits() -> None:
    clock = Clock()
    await RateLimit(None, clock, clock.sleep).spend(10**9)
    assert clock.now == 0.0
    assert RateLimit(None, clock).delay_after(10**9) == 0.0
