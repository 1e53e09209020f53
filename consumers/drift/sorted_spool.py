"""Sorted spool: any number of rows, sorted by key, in the memory of one run.

A store does not scan in the order of keys. So its entries are written in sorted runs, and the runs
are merged while they are read. They are in one temporary file without a name, which is gone with
its process, however that ends. Rows that fit into one run never touch the disk.

Weakness: the merge holds a block of each run, so memory grows again with thousands of runs (16 KiB
for each 20,000 rows).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from heapq import merge
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, Self

import orjson

from outbox.errors import DependencyDown
from outbox.streams.difference import Pair
from outbox.streams.heads import Entry, StreamKey
from outbox.streams.stored_entries import ForeignEntry

RUN_ROWS = 20_000
BLOCK_BYTES = 16 * 1024

Row = tuple[Any, ...] | list[Any]


class Run(NamedTuple):
    """Where a sorted run lies in the file, in bytes."""

    start: int
    end: int


class SortedSpool:
    """Rows that begin with aggregate and key; iterating returns them in the order of these two.

    It may be read more than once; a reader gets the rows that were there when it began. Raises
    DependencyDown (`disk`) where the disk is full or fails: the spool is useless then.
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
        """Delete the temporary file, and with it the rows in it."""
        if self._file is not None:
            self._file.close()

    def sibling(self) -> "SortedSpool":
        """An empty spool with the same limit; the caller closes it."""
        return SortedSpool(self._run_rows)

    def add(self, row: Row) -> None:
        """Add a row; write a run to the disk once enough rows are in memory."""
        self._open.append(row)
        self.rows += 1
        if len(self._open) >= self._run_rows:
            self._write_run()

    def __iter__(self) -> Iterator[Row]:
        runs = [self._read_run(run) for run in self._runs]
        return merge(*runs, sorted(self._open, key=_key_of), key=_key_of)

    def _write_run(self) -> None:
        lines = b"".join(orjson.dumps(row) + b"\n" for row in sorted(self._open, key=_key_of))
        with _translate_disk_errors():
            file = self._file = self._file or TemporaryFile()  # noqa: SIM115 - closed at exit
            start = file.seek(0, os.SEEK_END)
            file.write(lines)
            file.flush()
        self._runs.append(Run(start, start + len(lines)))
        self._open.clear()

    def _read_run(self, run: Run) -> Iterator[Row]:
        """Read a run by explicit offsets, so that several runs can be read at the same time."""
        if self._file is None:
            return
        descriptor, offset, rest = self._file.fileno(), run.start, b""
        while offset < run.end:
            with _translate_disk_errors():
                block = os.pread(descriptor, min(BLOCK_BYTES, run.end - offset), offset)
            if not block:
                raise DependencyDown("disk", "a temporary file is shorter than what was written")
            offset += len(block)
            *lines, rest = (rest + block).split(b"\n")
            yield from map(orjson.loads, lines)


@contextmanager
def _translate_disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DependencyDown("disk", error) from error


def _key_of(row: Row) -> tuple[str, str]:
    return row[0], row[1]


def row_of_entry(entry: Entry) -> Row:
    """An entry as a row of the spool."""
    return (*entry.stream, entry.version, entry.digest, entry.deleted)


def read_entries(spool: Iterable[Row]) -> Iterator[Entry]:
    """The entries that `row_of_entry` made rows of."""
    for aggregate, key, version, digest, deleted in spool:
        yield Entry(StreamKey(aggregate, key), version, digest, deleted)


def row_of_foreign(foreign: ForeignEntry) -> Row:
    """A foreign entry as a row.

    Its texts come from another program and may hold half a surrogate pair, which no file takes, so
    that is escaped.
    """
    return (_escape_surrogates(foreign.place), _escape_surrogates(foreign.why))


def read_foreign(spool: Iterable[Row]) -> Iterator[ForeignEntry]:
    """The foreign entries that `row_of_foreign` made rows of."""
    for place, why in spool:
        yield ForeignEntry(place, why)


def _escape_surrogates(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def row_of_pair(pair: Pair) -> Row:
    """Both sides of a key as one row."""
    return (*pair.stream, *_side(pair.head), *_side(pair.stored))


def read_pairs(spool: Iterable[Row]) -> Iterator[Pair]:
    """The pairs that `row_of_pair` made rows of."""
    for aggregate, key, *sides in spool:
        stream = StreamKey(aggregate, key)
        yield Pair(_entry(stream, *sides[:3]), _entry(stream, *sides[3:]))


def _side(entry: Entry | None) -> tuple[int | None, str | None, bool | None]:
    return (entry.version, entry.digest, entry.deleted) if entry else (None, None, None)


def _entry(
    stream: StreamKey, version: int | None, digest: str | None, deleted: bool | None
) -> Entry | None:
    return None if version is None else Entry(stream, version, digest or "", bool(deleted))
