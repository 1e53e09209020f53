"""Failpoints: named moments at which a test can end, stop or delay this very process.

`FAILPOINTS="relay-5=kill@3"` kills at the third time that the relay gets there; several are
separated by commas. Nothing is armed unless the setting says so, and a production profile refuses
it. Unarmed, a failpoint costs one look at an empty dict.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Failpoint(StrEnum):
    """Each is reached in the order of its number, within its part.

    A consumer writes to one store, so it has one point after its effect. Inside a command's
    transaction the points are those of the write: its receipt is in at write-1.
    """

    BEFORE_DOMAIN_WRITE = "write-1"
    BEFORE_MESSAGES = "write-2"
    BEFORE_COMMIT = "write-3"
    COMMIT_SENT = "write-4"
    COMMIT_ANSWERED = "write-5"
    REPLY_READY = "write-6"

    LEASE_TAKEN = "relay-1"
    ROWS_READ = "relay-2"
    BATCHES_PACKED = "relay-3"
    BATCHES_SENT = "relay-4"
    BATCHES_ACKNOWLEDGED = "relay-5"
    PROGRESS_SENT = "relay-6"
    PROGRESS_KEPT = "relay-7"
    LEASE_RENEWED = "relay-8"
    DRAINING = "relay-9"
    PARTITION_DROPPED = "relay-10"

    REPLAY_READ = "replay-1"
    REPLAY_SENT = "replay-2"
    REPLAY_ACKNOWLEDGED = "replay-3"
    REPLAY_KEPT = "replay-4"

    RECORDS_RECEIVED = "cons-1"
    EFFECT_SENT = "cons-2"
    EFFECT_DONE = "cons-3"
    OFFSET_SENT = "cons-4"
    REVOKING = "cons-5"
    LETTER_WRITTEN = "cons-6"
    KEY_PARKED = "cons-7"

    REBUILD_OPENED = "rebuild-1"
    GENERATION_MADE = "rebuild-2"
    KEYS_BROUGHT = "rebuild-3"
    PARITY_REACHED = "rebuild-4"
    SWITCHED = "rebuild-5"


class ReachedError(Exception):
    """What the action `raise` raises: a surprise, as any other bug would be."""


def _kill(_: float) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(_: float) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _raise(_: float) -> None:
    raise ReachedError


def _cancel(_: float) -> None:
    task = asyncio.current_task()
    if task is not None:
        task.cancel()


# `sleep` blocks the whole process, as a long garbage collection or a slow disk would.
ACTIONS: dict[str, Callable[[float], None]] = {
    "kill": _kill, "stop": _stop, "raise": _raise, "cancel": _cancel, "sleep": time.sleep,
}  # fmt: skip


@dataclass(slots=True)
class _Armed:
    """What happens at the `at`-th time; `argument` is the seconds of a sleep."""

    action: Callable[[float], None]
    argument: float
    at: int
    reached: int = 0

    def reach(self) -> None:
        self.reached += 1
        if self.reached == self.at:
            self.action(self.argument)


_armed: dict[Failpoint, _Armed] = {}

# A driver first waits until its socket takes bytes, a producer until its sender wakes up.
TURNS_TO_SEND = 10


def arm(specification: str) -> None:
    """Arm `point=action[:seconds][@nth]`, comma-separated; ValueError names what is wrong."""
    armed = dict(map(_parse, filter(None, specification.split(","))))
    _armed.clear()
    _armed.update(armed)


def failpoint(point: Failpoint) -> None:
    """This moment; nothing happens unless it is armed."""
    if _armed and point in _armed:
        _armed[point].reach()


def armed(point: Failpoint) -> bool:
    """For a moment that exists only where a test asks for it."""
    return point in _armed


async def while_waiting(point: Failpoint, request: Awaitable[T]) -> T:
    """Await `request`, and reach `point` once it was sent and its answer is still to come.

    Weakness: "sent" is so many turns of the loop. A statement that its session has yet to prepare
    takes two requests, of which this is the first; a server may be quicker with its answer.
    """
    if point not in _armed:
        return await request
    task = asyncio.ensure_future(request)
    for _ in range(TURNS_TO_SEND):
        await asyncio.sleep(0)
    failpoint(point)
    return await task


def _parse(text: str) -> tuple[Failpoint, _Armed]:
    name, _, rest = text.strip().partition("=")
    rest, _, nth = rest.partition("@")
    action, _, seconds = rest.partition(":")
    if name not in set(Failpoint) or action not in ACTIONS:
        rule = f"{' | '.join(ACTIONS)} at one of {', '.join(Failpoint)}"
        raise ValueError(f"FAILPOINTS: {text!r} is not {rule}")
    return Failpoint(name), _Armed(ACTIONS[action], float(seconds or 0), int(nth or 1))
