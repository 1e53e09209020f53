"""LogWriter: a caller never waits, and dropped lines are counted and reported."""

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from outbox.runtime.log_writer import LogWriter

PIPE_BYTES = 4096
QUEUE_BYTES = 1_000
LINE = "x" * 99 + "\n"
WITHIN_SECONDS = 30.0


@dataclass
class Pipe:
    """A pipe that is full from the start: a write into it waits until it is read."""

    out: int
    into: int

    def read(self) -> str:
        """Return what is in the pipe, or comes next, without the filling."""
        return os.read(self.out, PIPE_BYTES).decode().lstrip("-")

    def up_to(self, end: str) -> str:
        text = ""
        while end not in text:
            text += self.read()
        return text

    def rest(self) -> str:
        """Return everything up to the call of `end`."""
        pieces = iter(lambda: os.read(self.out, PIPE_BYTES).decode(), "")
        return "".join(pieces).lstrip("-")

    def end(self) -> None:
        os.dup2(self.out, self.into)  # the number stays taken: the fixture closes it


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    fcntl = pytest.importorskip("fcntl")
    out, into = os.pipe()
    size = fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.write(into, b"-" * size)
    yield Pipe(out, into)
    os.close(out)
    os.close(into)


def report(lines: int) -> str:
    return f"{lines} dropped\n"


def write(writer: LogWriter, lines: int) -> None:
    for _ in range(lines):
        writer.write(LINE)


def test_lines_come_in_order(tmp_path: Path) -> None:
    file = tmp_path / "log"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    writer = LogWriter(descriptor, 1 << 20, report)
    lines = [f"line {number} \udcff é\n" for number in range(2_000)]
    for line in lines:
        writer.write(line)
    assert writer.flush(WITHIN_SECONDS)
    os.close(descriptor)
    assert file.read_bytes().decode().split("\n")[:-1] == [
        line.encode(errors="backslashreplace").decode().strip("\n") for line in lines
    ]
    assert writer.dropped == 0


def test_where_nobody_reads_lines_are_dropped_and_nobody_waits(pipe: Pipe) -> None:
    """O7: lines that fit wait, the others are counted; once read again, a line says how many.

    On a busy machine the writer's thread may run in the middle: then a second line says the rest.
    """
    writer = LogWriter(pipe.into, QUEUE_BYTES, report)
    write(writer, 50)
    assert writer.dropped == 50 - QUEUE_BYTES // len(LINE)
    assert not writer.flush(0.0)
    seen = ""
    while sum(map(int, re.findall(r"(\d+) dropped\n", seen))) < 40:
        seen += pipe.read()
    assert re.sub(r"\d+ dropped\n", "", seen) == LINE * 10
    assert writer.flush(WITHIN_SECONDS)
    writer.write("after\n")
    assert pipe.up_to("after\n") == "after\n"
    assert writer.flush(WITHIN_SECONDS)


def test_lines_of_several_threads_are_whole_or_dropped(pipe: Pipe) -> None:
    """O7: none is cut, none is lost uncounted."""
    writer = LogWriter(pipe.into, QUEUE_BYTES, report)
    threads = [threading.Thread(target=write, args=(writer, 500)) for _ in range(4)]
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.rest()))
    for thread in (*threads, reader):
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.flush(WITHIN_SECONDS)
    pipe.end()
    reader.join()
    lines = read[0].splitlines(keepends=True)
    counts = [int(line.split()[0]) for line in lines if line != LINE]
    assert 0 < sum(counts) == writer.dropped
    assert len(lines) - len(counts) == 2_000 - writer.dropped


def test_a_full_disk_costs_lines_that_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """O7: /dev/full, then a file with room."""
    monkeypatch.setattr("outbox.runtime.log_writer.AGAIN_SECONDS", 0.05)
    full = os.open("/dev/full", os.O_WRONLY)
    writer = LogWriter(full, QUEUE_BYTES, report)
    write(writer, 3)
    assert not writer.flush(0.3)
    assert writer.dropped == 3
    out, into = os.pipe()
    os.dup2(into, full)
    assert Pipe(out, into).up_to("dropped\n") == report(3)
    for descriptor in (full, into, out):
        os.close(descriptor)


def test_a_descriptor_that_does_not_block_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.into, False)
    writer = LogWriter(pipe.into, QUEUE_BYTES, report)
    writer.write("one\n")
    assert not writer.flush(0.1)
    assert pipe.up_to("one\n") == "one\n"
    assert writer.dropped == 0
