"""How long tests of endurance run: seconds in CI, minutes with LONG=1.

`make faults` kills at each failpoint as often as it promises, and takes more cases; `make test`
takes fewer, because all of it must end within CI's three quarters of an hour.
"""

import os

LONG = os.environ.get("LONG") == "1"
FAULTS = os.environ.get("FAULTS") == "1"  # as `make faults` sets it


def seconds(short: float, long: float) -> float:
    """Return `short`, or `long` with LONG=1."""
    return long if LONG else short


def times(short: int, long: int, faults: int | None = None) -> int:
    """Return how often to do something: `short`, `long` with LONG=1, or what `make faults` does."""
    if LONG:
        return long
    return faults if FAULTS and faults else short


def kills() -> int:
    """Return how often a process is killed at each failpoint."""
    return times(1, 30, faults=6)
