"""How long a test of endurance takes: seconds in CI, minutes with LONG=1."""

import os

LONG = os.environ.get("LONG") == "1"


def seconds(short: float, long: float) -> float:
    """`short`, or `long` where LONG=1 asks for it."""
    return long if LONG else short


def times(short: int, long: int) -> int:
    """The same for how often a thing is done."""
    return long if LONG else short
