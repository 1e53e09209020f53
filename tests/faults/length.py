"""How long a test of endurance takes: seconds in CI, minutes with LONG=1."""

import os

LONG = os.environ.get("LONG") == "1"


def seconds(short: float, long: float) -> float:
    """`short`, or `long` where LONG=1 asks for it."""
    return long if LONG else short
