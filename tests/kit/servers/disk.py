"""A small disk in the place of a folder, which a test can fill and free."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PIECE = bytes(64 * 1024)


class Disk:
    """The disk that is mounted at `folder`; `fill` leaves no byte free."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while file.write(PIECE):
                pass

    def free(self) -> None:
        self._ballast.unlink()

    @property
    def full(self) -> bool:
        return shutil.disk_usage(self._ballast.parent).free == 0


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Disk]:
    """Mount a tmpfs with what the folder held; skip the test where that is not allowed.

    The folder must belong to a server that is stopped. The block's end removes the disk and all
    that is on it.
    """
    held = folder.with_name(f"{folder.name}.before")
    subprocess.run(["/bin/cp", "-a", str(folder), str(held)], check=True)
    options = f"size={mebibytes}m,mode=0700"
    mount = ["/bin/mount", "-t", "tmpfs", "-o", options, "faults", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs may be mounted here: {mounted.stderr.strip()}")
    try:
        subprocess.run(["/bin/cp", "-a", f"{held}/.", str(folder)], check=True)
        yield Disk(folder)
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)
