"""How long tests of endurance run: seconds in CI, minutes with LONG=1.

`make faults` kills at each failpoint as often as it promises; `make test` kills less often, because
all of it must end within CI's half hour.
"""

import os

LONG = os.environ.get("LONG") == "1"
FAULTS = os.environ.get("FAULTS") == "1"  # as `make faults` sets it


def seconds(short: float, long: float) -> float:
    """Return `short`, or `long` with LONG=1."""
    return long if LONG else short


def times(short: int, long: int) -> int:
    """Return how often to do something: `short`, or `long` with LONG=1."""
    return long if LONG else short


def kills() -> int:
    """Return how often a process is killed at each failpoint."""
    if LONG:
        return 30
    return 6 if FAULTS else 2
