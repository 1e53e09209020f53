"""Java is found where it is installed, and refused if it is too old."""

from pathlib import Path

import pytest

from stack.errors import PartMissing
from stack.servers.java import find_java

pytestmark = pytest.mark.anyio


def installed(folder: Path, version: str) -> Path:
    """Make a folder with a `java` that prints its version only."""
    program = folder / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize("version", ["17.0.15", "25-ea", "21"])
async def test_one_that_is_young_enough_is_taken(tmp_path: Path, version: str) -> None:
    home = installed(tmp_path, version)
    assert await find_java(home, 17) == home / "bin" / "java"


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.22", "16.0.2"])
async def test_an_old_one_is_missing_with_its_version(tmp_path: Path, version: str) -> None:
    with pytest.raises(PartMissing, match=f"is Java {version.split('.')[0]}; version 17"):
        await find_java(installed(tmp_path, version), 17)


async def test_none_is_missing_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PartMissing, match="JAVA_HOME"):
        await find_java(None, 17)
