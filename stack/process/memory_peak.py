"""Peak: how much more memory a piece of work takes than was in use when it began.

Weakness: it is the whole process that is looked at, every few milliseconds: whatever runs beside
the work counts too, and memory that was freed before and is used again does not.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize
from time import monotonic

LOOK_SECONDS = 0.01
STATM = Path("/proc/self/statm")


@dataclass(slots=True)
class Peak:
    """In bytes and seconds; read it when the block has ended."""

    before: int
    highest: int
    seconds: float = 0.0

    @property
    def growth_bytes(self) -> int:
        return self.highest - self.before


@contextmanager
def peak() -> Iterator[Peak]:
    """Look from a thread of its own, so that it is seen what a busy event loop does."""
    seen, started = Peak(resident_bytes(), 0), monotonic()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            seen.highest = max(seen.highest, resident_bytes())

    looking = threading.Thread(target=look, name="peak", daemon=True)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()
        seen.seconds = monotonic() - started
        seen.highest = max(seen.highest, resident_bytes())


def resident_bytes() -> int:
    """What this process holds in memory now."""
    return int(STATM.read_text(encoding="ascii").split()[1]) * getpagesize()
