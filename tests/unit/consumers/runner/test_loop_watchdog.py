"""LoopWatchdog: it logs a blocked event loop before the group takes partitions away (C8)."""

import asyncio
import time

import pytest

from consumers.runner import loop_watchdog
from consumers.runner.loop_watchdog import BEAT_SECONDS, LoopWatchdog
from tests.kit.captured import captured
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("blocked_seconds", "loud"), [(1.0, True), (0.0, False)])
async def test_a_gap_of_half_a_session_is_said(blocked_seconds: float, loud: bool) -> None:
    """A busy machine makes gaps too, so in the quiet case a session lasts an hour."""
    beats = LoopWatchdog(2.0 if loud else 3_600)
    with captured(loop_watchdog) as logs:
        beating = asyncio.create_task(beats.run())
        await asyncio.sleep(0)
        time.sleep(blocked_seconds + BEAT_SECONDS)  # noqa: ASYNC251 - the fault itself
        await until(lambda: beat(beats), 30, 0.01)
        beating.cancel()
        await asyncio.wait([beating])
    assert beats.longest_gap_seconds >= blocked_seconds
    assert [each["event"] for each in logs] == ["event loop was blocked"] * loud


async def beat(beats: LoopWatchdog) -> bool:
    return beats.longest_gap_seconds > 0
