"""Jars: the files that a pom asks for, resolved once by Maven and kept in a cache."""

import asyncio
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import structlog

from stack.errors import PartFailed, PartMissing
from stack.process.process import Process, Program
from stack.servers.java import find_java
from stack.settings import StackSettings

log = structlog.get_logger(__name__)

DOWNLOAD_TIMEOUT_SECONDS = 600.0
LOCK_PAUSE_SECONDS = 0.1
MAVEN = "mvn"
# Maven finds its own settings by these; it gets none of our other variables.
MAVEN_VARIABLES = ("HOME", "JAVA_HOME", "MAVEN_HOME", "MAVEN_OPTS", "MAVEN_ARGS")


async def jars_of(pom: Path, settings: StackSettings) -> Path:
    """Return a folder with the jars of `pom` and of all that they need; PartMissing without Maven.

    The folder's name holds a hash of the pom, and it appears whole or not at all. Of two processes
    that miss it at once, one downloads and the other one waits. The operator's own Maven settings
    say which repository serves the jars.

    Weaknesses: Maven compares checksums with what the same repository says, and we pin versions
    only; and Maven's own local repository is shared with every other run of Maven.
    """
    folder = settings.cache_folder() / name_of(pom)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    async with lock_file(folder.with_name(f"{folder.name}.lock"), DOWNLOAD_TIMEOUT_SECONDS):
        if not folder.is_dir():
            await download(pom, folder, settings)
    return folder


async def can_run_jars(pom: Path, oldest_java: int, settings: StackSettings) -> bool:
    """Return whether there is a Java that is young enough, and the jars or a Maven to get them."""
    try:
        await find_java(settings.java_home, oldest_java)
    except PartMissing:
        return False
    kept = settings.cache_folder() / name_of(pom)
    return kept.is_dir() or shutil.which(MAVEN) is not None


def name_of(pom: Path) -> str:
    """Return the folder's name: the first word of the pom's name, and a hash of its content."""
    return f"{pom.name.split('.')[0]}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:16]}"


async def download(pom: Path, folder: Path, settings: StackSettings) -> None:
    """Fill a new folder, and give it its name at the end."""
    maven = shutil.which(MAVEN)
    if maven is None:
        raise PartMissing(f"no jars for {pom.name}: install Maven (mvn)")
    unfinished = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    log.info("downloading", pom=pom.name, folder=str(folder))
    patient = settings.model_copy(update={"ready_timeout_seconds": DOWNLOAD_TIMEOUT_SECONDS})
    await Process.run(maven_program(maven, pom, unfinished), patient)
    if not any(unfinished.glob("*.jar")):
        raise PartFailed(f"Maven found no jars for {pom.name}")
    unfinished.rename(folder)


def maven_program(maven: str, pom: Path, target: Path) -> Program:
    """Return the program that copies the dependencies of `pom` to `target`."""
    quiet = ("--batch-mode", "--quiet", "--strict-checksums")
    options = (f"-DoutputDirectory={target}", "-DincludeScope=runtime")
    return Program(
        name="maven",
        argv=(maven, *quiet, f"--file={pom.resolve()}", "dependency:copy-dependencies", *options),
        folder=target.parent,
        log=target.with_suffix(".log"),
        environment={name: os.environ[name] for name in MAVEN_VARIABLES if name in os.environ},
    )


@asynccontextmanager
async def lock_file(file: Path, seconds: float) -> AsyncIterator[None]:
    """Hold the file against other processes; the kernel releases it when we die.

    PartFailed is raised if another process holds it for longer than `seconds`.
    """
    with file.open("w", encoding="ascii") as handle:
        try:
            async with asyncio.timeout(seconds):
                while not try_lock(handle):  # noqa: ASYNC110 - another process holds it
                    await asyncio.sleep(LOCK_PAUSE_SECONDS)
        except TimeoutError:
            raise PartFailed(f"another process has held {file} for {seconds:g} s") from None
        yield


def try_lock(handle: IO[str]) -> bool:
    """Take the lock if it is free; return whether it is ours now."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
