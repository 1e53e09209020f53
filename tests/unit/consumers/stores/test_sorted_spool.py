"""A spool returns the rows that were added, sorted, whatever the size of its runs."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.drift.sorted_spool import (
    SortedSpool,
    read_entries,
    read_pairs,
    row_of_entry,
    row_of_pair,
)
from outbox.errors import DependencyDown
from outbox.streams.difference import Pair
from outbox.streams.heads import Entry, StreamKey

# What a store may hold: newlines, quotes, and text beyond the basic plane.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
ENTRIES = st.lists(
    st.builds(
        Entry,
        st.builds(StreamKey, TEXTS, TEXTS),
        st.integers(0, 2**63 - 1),
        st.sampled_from(["", "d\n", "é"]),
        st.booleans(),
    ),
    max_size=40,
)


@given(given=ENTRIES, run_rows=st.integers(1, 50))
def test_entries_come_back_in_the_order_of_their_keys_bytes(
    given: list[Entry], run_rows: int
) -> None:
    with SortedSpool(run_rows) as spool:
        for entry in given:
            spool.add(row_of_entry(entry))
        for _ in range(2):  # it may be read again
            back = list(read_entries(spool))
            assert [e.stream for e in back] == sorted(
                (e.stream for e in given), key=lambda s: (s.aggregate.encode(), s.key.encode())
            )
            assert sorted(map(repr, back)) == sorted(map(repr, given))
        assert spool.rows == len(given)


@pytest.mark.parametrize("run_rows", [1, 10])
def test_a_side_that_is_not_there_stays_so(run_rows: int) -> None:
    entry = Entry(StreamKey("a.b", "k"), 3, "d", deleted=False)
    tombstone = Entry(StreamKey("a.b", "l"), 4, "e", deleted=True)
    given = [Pair(entry, None), Pair(None, tombstone)]
    with SortedSpool(run_rows) as spool:
        for pair in given:
            spool.add(row_of_pair(pair))
        assert list(read_pairs(spool)) == given


def test_what_fits_into_a_run_needs_no_file_and_the_rest_lies_in_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with SortedSpool(run_rows=3) as spool:
        spool.add(("a", "1"))
        spool.add(("a", "0"))
        assert list(spool) == [("a", "0"), ("a", "1")]
        with pytest.raises(DependencyDown, match="disk is down"):
            spool.add(("a", "2"))


def full(*_: Any) -> bytes:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def cut_short(*_: Any) -> bytes:
    return b""


@pytest.mark.parametrize("fails", [full, cut_short])
def test_a_disk_that_fails_while_it_is_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[..., bytes]
) -> None:
    with SortedSpool(run_rows=2) as spool:
        for number in range(5):
            spool.add(("a", str(number)))
        monkeypatch.setattr(os, "pread", fails)
        with pytest.raises(DependencyDown, match="disk is down"):
            list(spool)
