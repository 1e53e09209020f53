"""PollInterval: no wait while busy, doubling waits when idle, and short again after work."""

import pytest

from outbox.runtime.poll_interval import FIRST_SECONDS, PollInterval


def test_work_is_followed_at_once() -> None:
    assert PollInterval(0.025).after(work=True) == 0.0


def test_idle_looks_double_up_to_the_rest_and_stay_there() -> None:
    interval = PollInterval(0.025)
    waits = [interval.after(work=False) for _ in range(12)]
    assert waits[:3] == pytest.approx([FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS])
    assert waits == sorted(waits)
    assert waits[-1] == 0.025
    assert max(waits) == 0.025


def test_work_ends_the_rest() -> None:
    interval = PollInterval(0.025)
    for _ in range(12):
        interval.after(work=False)
    interval.after(work=True)
    assert interval.after(work=False) == FIRST_SECONDS


def test_a_rest_shorter_than_the_first_wait_is_kept() -> None:
    assert PollInterval(0.0001).after(work=False) == 0.0001
