"""Batches: all changes of a key are in one batch, so that a key is never judged by half of them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.projections.projection import Change, batch_by_key, keep_latest
from consumers.projections.testing.sample import catalog_items

sample = catalog_items()
ALL = [sample.upserted(name, version) for name in "abcdefgh" for version in (1, 2, 3)]
CHANGES = st.lists(st.sampled_from(ALL), max_size=30)


@settings(deadline=None)
@given(CHANGES, st.integers(1, 10))
def test_a_key_is_in_one_batch_and_its_changes_stay_in_order(
    changes: list[Change], keys: int
) -> None:
    made = list(batch_by_key(changes, keys))
    streams = [{change.stream for change in batch} for batch in made]
    assert all(1 <= len(each) <= keys for each in streams)
    assert sum(map(len, streams)) == len({change.stream for change in changes})
    flat = [change for batch in made for change in batch]
    for stream in {change.stream for change in changes}:
        assert [c for c in flat if c.stream == stream] == [c for c in changes if c.stream == stream]


@settings(deadline=None)
@given(CHANGES)
def test_the_latest_is_the_highest_of_each_key_in_key_order(changes: list[Change]) -> None:
    heads = keep_latest(changes)
    assert [head.stream for head in heads] == sorted({change.stream for change in changes})
    for head in heads:
        assert head.version == max(c.version for c in changes if c.stream == head.stream)
