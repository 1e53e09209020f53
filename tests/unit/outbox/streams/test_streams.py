"""Comparing stream heads with a store finds each kind of difference, and nothing else."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outbox.streams.difference import Difference, Pair, compare, merge
from outbox.streams.heads import Entry, StreamKey

KEY = StreamKey("test.thing", "k")
HEAD = Entry(KEY, version=3, digest="d3", deleted=False)


def test_the_same_on_both_sides_is_no_difference() -> None:
    assert compare([HEAD], [HEAD]) == Difference()
    assert compare([], []).keys == 0


@pytest.mark.parametrize(
    ("head", "stored", "difference"),
    [
        pytest.param([HEAD], [], Difference(missing=[KEY]), id="missing"),
        pytest.param(
            [replace(HEAD, deleted=True)], [], Difference(missing=[KEY]), id="no tombstone"
        ),
        pytest.param([HEAD], [replace(HEAD, version=2)], Difference(stale=[KEY]), id="stale"),
        pytest.param(
            [replace(HEAD, deleted=True)],
            [replace(HEAD, version=2)],
            Difference(stale=[KEY]),
            id="not yet deleted",
        ),
        pytest.param([], [HEAD], Difference(orphaned=[KEY]), id="orphaned"),
        pytest.param(
            [], [replace(HEAD, deleted=True)], Difference(orphaned=[KEY]), id="orphaned tombstone"
        ),
        pytest.param(
            [HEAD], [replace(HEAD, digest="x")], Difference(different=[KEY]), id="other digest"
        ),
        pytest.param(
            [HEAD], [replace(HEAD, version=4)], Difference(different=[KEY]), id="above the head"
        ),
        pytest.param(
            [HEAD], [replace(HEAD, deleted=True)], Difference(different=[KEY]), id="wrongly deleted"
        ),
        pytest.param(
            [replace(HEAD, deleted=True)], [HEAD], Difference(different=[KEY]), id="still shown"
        ),
    ],
)
def test_each_difference_has_its_kind(
    head: list[Entry], stored: list[Entry], difference: Difference
) -> None:
    assert compare(head, stored) == difference
    assert difference.keys == 1


def test_a_key_of_another_aggregate_is_another_key() -> None:
    other = replace(HEAD, stream=StreamKey("test.other", "k"))
    assert compare([HEAD], [other]) == Difference(missing=[KEY], orphaned=[other.stream])


ENTRIES = st.dictionaries(
    st.sampled_from([StreamKey("test.thing", key) for key in ("a", "b/c", "b0", "é", "ﬀ", "𝄞")]),
    st.tuples(st.integers(1, 3), st.sampled_from("xy"), st.booleans()),
).map(lambda entries: [Entry(stream, *rest) for stream, rest in entries.items()])


@given(heads=ENTRIES, stored=ENTRIES)
def test_every_key_that_differs_is_named_once_and_no_other(
    heads: list[Entry], stored: list[Entry]
) -> None:
    found = compare(heads, stored)
    named = found.missing + found.stale + found.orphaned + found.different
    assert sorted(named) == sorted({entry.stream for entry in set(heads) ^ set(stored)})
    assert found.keys == len(named)


async def heads_of(entries: Sequence[Entry]) -> AsyncIterator[Entry]:
    for entry in entries:
        yield entry


def merged(heads: list[Entry], stored: list[Entry]) -> list[Pair]:
    async def all_pairs() -> list[Pair]:
        return [pair async for pair in merge(heads_of(heads), stored)]

    return anyio.run(all_pairs)


def in_order(entries: list[Entry]) -> list[Entry]:
    """Sort by bytes, which is the order of PostgreSQL's collation "C"."""
    return sorted(entries, key=lambda entry: entry.stream.key.encode())


@settings(deadline=None)
@given(heads=ENTRIES, stored=ENTRIES)
def test_a_merge_names_every_key_once_in_order_and_finds_what_compare_finds(
    heads: list[Entry], stored: list[Entry]
) -> None:
    pairs = merged(in_order(heads), in_order(stored))
    keys = [pair.stream.key.encode() for pair in pairs]
    assert keys == sorted({entry.stream.key.encode() for entry in heads + stored})
    found = Difference()
    for pair in pairs:
        found.add(pair)
    assert found == compare(in_order(heads), in_order(stored))


A, B = (replace(HEAD, stream=StreamKey("test.thing", key)) for key in "ab")


@pytest.mark.parametrize("wrong", [[B, A], [A, A]], ids=["out of order", "twice"])
def test_a_side_that_is_not_in_order_is_an_error(wrong: list[Entry]) -> None:
    for heads, stored in ((wrong, []), ([], wrong), ([A, B], wrong), (wrong, [A, B])):
        with pytest.raises(ValueError, match="out of order, or twice"):
            merged(heads, stored)
