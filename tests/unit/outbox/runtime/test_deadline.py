"""FC9: a deadline ends its block even if that swallows a cancellation, and claims no other one."""

import asyncio

import pytest

from outbox.errors import DependencyDown
from outbox.postgres import deadline as of
from outbox.postgres.deadline import Deadline

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 30


async def test_what_ends_in_time_is_left_alone() -> None:
    async with Deadline(3_600) as deadline:
        await asyncio.sleep(0)
    assert not deadline.expired


async def test_what_never_ends_is_an_outage() -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        with pytest.raises(DependencyDown, match=r"no answer within 0\.01 s, alas"):
            async with Deadline(0.01, ", alas"):
                await asyncio.Event().wait()
    await asyncio.sleep(0)  # no cancellation is left for what comes after


async def test_a_block_that_keeps_a_cancellation_gets_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This is what psycopg does while it waits for the answer to its own request to cancel."""
    monkeypatch.setattr(of, "AGAIN_SECONDS", 0.01)
    kept = 0

    async def keeps_two() -> None:
        nonlocal kept
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if kept == 2:
                    raise
                kept += 1

    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()  # other tests run in the same task
    async with asyncio.timeout(WITHIN_SECONDS):
        with pytest.raises(DependencyDown):
            async with Deadline(0.01):
                await keeps_two()
    assert (kept, task.cancelling()) == (2, before)


async def test_an_error_on_the_way_out_is_the_outage_too() -> None:
    """It may come from a rollback over a connection that was given up."""
    with pytest.raises(DependencyDown):
        async with Deadline(0.01):
            try:
                await asyncio.Event().wait()
            finally:
                raise OSError("the connection is closed")


async def test_a_cancellation_from_outside_stays_one() -> None:
    inside = asyncio.Event()

    async def waits() -> None:
        async with Deadline(3_600):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await inside.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_an_outer_deadline_is_told_by_the_outer_one() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), Deadline(3_600):
            await asyncio.Event().wait()
    with pytest.raises(DependencyDown, match=r"within 0\.01 s"):
        async with Deadline(0.01), Deadline(3_600):
            await asyncio.Event().wait()
