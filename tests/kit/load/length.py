"""How long a test of endurance takes: seconds in CI, minutes with LONG=1.

`make faults` kills at each failpoint as often as it promises, `make test` less often: all of it
must end within CI's half hour.
"""

import os

LONG = os.environ.get("LONG") == "1"
FAULTS = os.environ.get("FAULTS") == "1"  # as `make faults` sets it


def seconds(short: float, long: float) -> float:
    """`short`, or `long` where LONG=1 asks for it."""
    return long if LONG else short


def times(short: int, long: int) -> int:
    """The same for how often a thing is done."""
    return long if LONG else short


def kills() -> int:
    """How often a process dies at each failpoint."""
    if LONG:
        return 30
    return 6 if FAULTS else 2
