"""Java: the one of JAVA_HOME, else the one of the PATH."""

import asyncio
import re
import shutil
from pathlib import Path

from stack.errors import PartMissing


async def find_java(home: Path | None, oldest: int) -> Path:
    """Return the `java` program of `home`, else of the PATH.

    PartMissing is raised if there is none, or if its version is older than `oldest`.
    """
    found = shutil.which("java", path=str(home / "bin") if home else None)
    if found is None:
        raise PartMissing(f"no Java: install a runtime of version {oldest} or set JAVA_HOME")
    version = await major_version(Path(found))
    if version < oldest:
        raise PartMissing(f"{found} is Java {version}; version {oldest} or younger is needed")
    return Path(found)


async def major_version(java: Path) -> int:
    """Return, for example, 17; 1 for everything before Java 9, 0 if the answer has no version."""
    asked = await asyncio.create_subprocess_exec(
        java, "-version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asked.communicate()
    version = re.search(rb'version "(\d+)', output)
    return int(version[1]) if version else 0
