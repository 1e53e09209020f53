"""Failpoints: named moments at which a test can end, stop or delay the running process.

`FAILPOINTS="relay-5=kill@3"` kills the process the third time that the relay reaches that moment;
several are separated by commas. Nothing is armed unless the setting says so, and a production
profile refuses the setting. An unarmed failpoint costs one look at an empty dict.
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
    """The moments; within each part they are reached in the order of their numbers.

    A consumer writes to one store, so it has one point after its effect. Inside a command's
    transaction the points are those of the write: its receipt is already written at write-1.
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
    """The action `raise` raises this: an unexpected error, like any other bug."""


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


# `sleep` blocks the whole process, like a long garbage collection or a slow disk.
ACTIONS: dict[str, Callable[[float], None]] = {
    "kill": _kill, "stop": _stop, "raise": _raise, "cancel": _cancel, "sleep": time.sleep,
}  # fmt: skip


@dataclass(slots=True)
class _Armed:
    """The action that is taken the `at`-th time; `argument` is the seconds of a sleep."""

    action: Callable[[float], None]
    argument: float
    at: int
    reached: int = 0

    def reach(self) -> None:
        self.reached += 1
        if self.reached == self.at:
            self.action(self.argument)


_armed: dict[Failpoint, _Armed] = {}

# Turns of the event loop until a request is sent: a driver first waits until its socket takes
# bytes, a producer until its sender wakes up.
TURNS_TO_SEND = 10


def arm(specification: str) -> None:
    """Arm what `point=action[:seconds][@nth]` names, comma-separated, and nothing else.

    ValueError names the part that is wrong.
    """
    armed = dict(map(_parse, filter(None, specification.split(","))))
    _armed.clear()
    _armed.update(armed)


def failpoint(point: Failpoint) -> None:
    """Mark this moment; nothing happens unless it is armed."""
    if _armed and point in _armed:
        _armed[point].reach()


def armed(point: Failpoint) -> bool:
    """Return whether the moment is armed, for moments that exist only where a test asks."""
    return point in _armed


async def while_waiting(point: Failpoint, request: Awaitable[T]) -> T:
    """Await `request`, and reach `point` once it was sent and before its answer has come.

    Weakness: "sent" is taken to be TURNS_TO_SEND turns of the event loop. A statement that has yet
    to be prepared takes two requests, and the point is then reached at the first; and a server may
    answer sooner.
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
