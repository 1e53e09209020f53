"""Spool: any number of rows, sorted by key, in the memory of one run.

A store does not scan in the order of keys, so what it shows is written down in sorted runs and
merged while it is read. Runs lie in one temporary file without a name: it is gone with its process,
however that ends. What fits into one run never touches the disk.

Weakness: the merge holds a block of each run, so memory grows again with thousands of runs (16 KiB
for each 20,000 rows).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from heapq import merge
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, Self, TypeVar

import orjson

from outbox.errors import DependencyDown
from outbox.streams.difference import Pair
from outbox.streams.heads import Entry, StreamKey
from outbox.streams.stored_entries import ForeignEntry

RUN_ROWS = 20_000
BLOCK_BYTES = 16 * 1024

T = TypeVar("T")
Row = tuple[Any, ...] | list[Any]


class Run(NamedTuple):
    """Where a sorted run lies in the file, in bytes."""

    start: int
    end: int


class SortedSpool:
    """Rows that begin with aggregate and key; iterating gives them in the order of those.

    It may be read again, and while it is added to only what was there is read. DependencyDown
    (`disk`) where the disk is full or fails: what was written is then of no use.
    """

    def __init__(self, run_rows: int = RUN_ROWS) -> None:
        self.rows = 0
        self._run_rows = run_rows
        self._open: list[Row] = []
        self._runs: list[Run] = []
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget all of it; the file is gone."""
        if self._file is not None:
            self._file.close()

    def sibling(self) -> "SortedSpool":
        """An empty one with the same limit; whoever asks closes it."""
        return SortedSpool(self._run_rows)

    def add(self, row: Row) -> None:
        self._open.append(row)
        self.rows += 1
        if len(self._open) >= self._run_rows:
            self._write_run()

    def __iter__(self) -> Iterator[Row]:
        runs = [self._read_run(run) for run in self._runs]
        return merge(*runs, sorted(self._open, key=_key), key=_key)

    def _write_run(self) -> None:
        lines = b"".join(orjson.dumps(row) + b"\n" for row in sorted(self._open, key=_key))
        with _disk_errors():
            file = self._file = self._file or TemporaryFile()  # noqa: SIM115 - closed at exit
            start = file.seek(0, os.SEEK_END)
            file.write(lines)
            file.flush()
        self._runs.append(Run(start, start + len(lines)))
        self._open.clear()

    def _read_run(self, run: Run) -> Iterator[Row]:
        """Reads where it is told to, so that runs do not move each other's place."""
        if self._file is None:
            return
        number, place, rest = self._file.fileno(), run.start, b""
        while place < run.end:
            with _disk_errors():
                block = os.pread(number, min(BLOCK_BYTES, run.end - place), place)
            if not block:
                raise DependencyDown("disk", "a temporary file is shorter than what was written")
            place += len(block)
            *lines, rest = (rest + block).split(b"\n")
            yield from map(orjson.loads, lines)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DependencyDown("disk", error) from error


def paginate(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, `size` at a time; the last page may be shorter."""
    rest = iter(items)
    while page := list(islice(rest, size)):
        yield page


def _key(row: Row) -> tuple[str, str]:
    return row[0], row[1]


def row_of_entry(entry: Entry) -> Row:
    return (*entry.stream, entry.version, entry.digest, entry.deleted)


def read_entries(spool: Iterable[Row]) -> Iterator[Entry]:
    for aggregate, key, version, digest, deleted in spool:
        yield Entry(StreamKey(aggregate, key), version, digest, deleted)


def row_of_foreign(foreign: ForeignEntry) -> Row:
    """What another program wrote may hold half a character, which no file takes."""
    return (_writable(foreign.place), _writable(foreign.why))


def read_foreign(spool: Iterable[Row]) -> Iterator[ForeignEntry]:
    for place, why in spool:
        yield ForeignEntry(place, why)


def _writable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def row_of_pair(pair: Pair) -> Row:
    return (*pair.stream, *_side(pair.head), *_side(pair.stored))


def read_pairs(spool: Iterable[Row]) -> Iterator[Pair]:
    for aggregate, key, *sides in spool:
        stream = StreamKey(aggregate, key)
        yield Pair(_entry(stream, *sides[:3]), _entry(stream, *sides[3:]))


def _side(entry: Entry | None) -> tuple[int | None, str | None, bool | None]:
    return (entry.version, entry.digest, entry.deleted) if entry else (None, None, None)


def _entry(
    stream: StreamKey, version: int | None, digest: str | None, deleted: bool | None
) -> Entry | None:
    return None if version is None else Entry(stream, version, digest or "", bool(deleted))
