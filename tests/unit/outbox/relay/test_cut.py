"""A snapshot is read into its parts, and two of them are compared by these parts."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.cursor.cut import Cut, Snapshot


@pytest.mark.parametrize(
    ("text", "xmax", "running"),
    [
        ("3:3:", 3, ()),
        ("10:20:10,14,15", 20, (10, 14, 15)),
        ("7:9:8", 9, (8,)),
        (f"{2**33}:{2**33 + 2}:{2**33}", 2**33 + 2, (2**33,)),
    ],
)
def test_a_snapshot_is_read_as_postgresql_writes_it(
    text: str, xmax: int, running: tuple[int, ...]
) -> None:
    assert Snapshot.parse(text) == Snapshot(text, xmax, running)


XIDS = st.integers(3, 2**63)


@given(xmax=XIDS, running=st.lists(XIDS, unique=True))
def test_every_snapshot_is_read_and_kept_as_text(xmax: int, running: list[int]) -> None:
    text = f"{min([xmax, *running])}:{xmax}:{','.join(map(str, sorted(running)))}"
    snapshot = Snapshot.parse(text)
    assert (snapshot.text, snapshot.xmax) == (text, xmax)
    assert snapshot.running == tuple(sorted(running))


@pytest.mark.parametrize("text", ["", "3:3", "3:x:", "3:3::", "3:4:a", "a:b:c:d"])
def test_what_is_no_snapshot_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|literal"):
        Snapshot.parse(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("3:3:", "3:3:", True),
        ("10:20:10,14", "10:20:10,14", True),
        ("10:20:10,14", "14:20:14", False),  # a transaction has ended
        ("10:20:10", "10:21:10", False),  # a transaction has begun
        ("10:20:10", "10:20:10,14", False),
    ],
)
def test_snapshots_are_the_same_when_nothing_began_or_ended(
    one: str, other: str, same: bool
) -> None:
    assert Snapshot.parse(one).is_same_as(Snapshot.parse(other)) is same
    assert Snapshot.parse(other).is_same_as(Snapshot.parse(one)) is same


def test_a_cut_starts_before_the_first_position_and_does_not_change() -> None:
    cut = Cut(Snapshot.parse("3:3:"), Snapshot.parse("3:9:"))
    assert cut.after == 0
    with pytest.raises(FrozenInstanceError):
        cut.after = 1  # type: ignore[misc] # frozen
