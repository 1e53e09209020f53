"""Several coroutines at once have one outcome, and none of them goes on after it."""

import asyncio

import pytest

from consumers.qdrant.gather import gather
from outbox.errors import DependencyDown

pytestmark = pytest.mark.anyio


async def goes_on(ended: asyncio.Event) -> None:
    """Run until cancelled, and a moment longer."""
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.01)
        ended.set()


async def test_the_results_are_in_the_order_of_the_work() -> None:
    async def after(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    assert await gather(map(after, (0.02, 0.0, 0.01))) == [0.02, 0.0, 0.01]
    assert await gather(()) == []


async def test_the_first_error_comes_as_itself_once_nothing_runs_any_more() -> None:
    ended = asyncio.Event()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise DependencyDown("qdrant", "gone")

    with pytest.raises(DependencyDown, match="gone"):
        await gather([goes_on(ended), fails()])
    assert ended.is_set()


async def test_who_is_cancelled_leaves_nothing_running() -> None:
    ended = asyncio.Event()

    waiting = asyncio.create_task(gather([goes_on(ended)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()
