"""Clock: a wall clock that a test can step, for the programs that are started with it."""

from pathlib import Path

import pytest

FOUND = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

needs_libfaketime = pytest.mark.skipif(
    not FOUND, reason="libfaketime is not installed (Debian: apt-get install libfaketime)"
)


class Clock:
    """A wall clock that is right until it is stepped. The monotonic clock is never touched.

    Programs that are started with `environment` have it. Its file is in a folder that all may read.
    Weakness: a program that is killed leaves two small files of the library in shared memory.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.step(0)

    def step(self, seconds: int) -> None:
        """Make it wrong by so many seconds, at once and for all of them."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n", encoding="ascii")
        new.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(FOUND[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
