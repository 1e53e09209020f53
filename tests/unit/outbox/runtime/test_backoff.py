"""Backoff: waits are short at first and longer later, and few failures are logged."""

import pytest

from outbox.runtime.backoff import LASTED_SECONDS, STEPS_SECONDS, Backoff
from tests.unit.outbox.relay.test_lease import Clock


def test_each_failure_that_follows_at_once_waits_longer_up_to_a_bound() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    waits = []
    for _ in range(8):
        waits.append(backoff.failed())
        clock.now += waits[-1]
    assert waits == [*STEPS_SECONDS, STEPS_SECONDS[-1], STEPS_SECONDS[-1]]


@pytest.mark.parametrize(("seconds", "steps"), [(LASTED_SECONDS, 0), (LASTED_SECONDS - 1, 3)])
def test_after_an_attempt_that_lasted_the_waits_begin_anew(seconds: float, steps: int) -> None:
    clock = Clock()
    backoff = Backoff(clock)
    for _ in range(3):
        clock.now += backoff.failed()
    clock.now += seconds
    assert backoff.failed() == STEPS_SECONDS[steps]


def test_after_a_success_the_waits_begin_anew() -> None:
    backoff = Backoff(Clock())
    backoff.failed()
    backoff.succeeded()
    assert backoff.failed() == STEPS_SECONDS[0]


def test_it_tells_once_a_second() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    logged = []
    for _ in range(12):
        logged.append(backoff.may_log())
        clock.now += 0.25
    assert logged == ([True] + [False] * 3) * 3
