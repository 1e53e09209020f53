"""The judge of the fault tests sees each thing that a relay may do wrong, and nothing else."""

from schemas.envelope import Envelope
from tests.kit.verdicts.history import Seen, Verdict, judge

TRUTH = {("a", 1), ("a", 2), ("b", 1)}
Record = tuple[str, int]


def seen(*records: Record, terms: tuple[int, ...] = (), ids: str = "") -> Seen:
    """Return a history on one partition, by default of term 1 and with an id for each message."""
    history = Seen()
    for number, (key, version) in enumerate(records):
        name = ids[number] if ids else f"{key}{version}"
        term = terms[number] if terms else 1
        envelope = Envelope(name, "/s", "t", key, b"{}", sequence=version, term=term)
        history.add(envelope, 0)
    return history


A1, A2, A3, B1 = ("a", 1), ("a", 2), ("a", 3), ("b", 1)


def test_a_right_history_has_no_fault() -> None:
    verdict = judge(TRUTH, seen(A1, B1, A2))
    assert verdict == Verdict(3, lost=0, doubled=0, reordered=0, ghosts=0, altered=0)
    assert (verdict.right, verdict.at_least_once) == (True, True)


def test_a_faithful_duplicate_is_all_that_at_least_once_allows() -> None:
    history = seen(A1, B1, A2, A1, A1)
    verdict = judge(TRUTH, history)
    assert (verdict.doubled, history.copies) == (1, 2)
    assert (verdict.right, verdict.at_least_once) == (False, True)


def test_what_the_next_term_repeats_is_a_duplicate_and_no_fault() -> None:
    """FD8: a busy machine may end a term by itself; one term never sends a message twice."""
    history = seen(A1, B1, A2, A2, terms=(1, 1, 1, 2))
    assert (history.copies, judge(TRUTH, history).right) == (1, True)
    assert judge(TRUTH, seen(A1, B1, A2, A2, terms=(1, 1, 2, 2))).doubled == 1


def test_each_other_fault_is_seen() -> None:
    """I2-I5."""
    assert judge(TRUTH, seen(A1, B1)).lost == 1
    assert judge(TRUTH, seen(A2, A1, B1)).reordered == 1
    assert judge(TRUTH, seen(A1, A2, B1, A3)).ghosts == 1
    assert judge(TRUTH, seen(A1, A2, B1, A1, ids="1234")).altered == 1
    for wrong in (seen(A1, B1), seen(A2, A1, B1), seen(A1, A2, B1, A3)):
        assert not judge(TRUTH, wrong).at_least_once
    assert not judge(TRUTH, seen(A1, A2, B1, A1, ids="1234")).at_least_once


def test_a_duplicate_with_other_bytes_is_seen() -> None:
    """I5."""
    history = seen(A1)
    history.add(Envelope("a1", "/s", "t", "a", b"{} ", sequence=1), 0)
    assert history.altered == 1


def test_a_record_of_an_ended_term_is_stale() -> None:
    """R2, R15: a duplicate of it may be allowed, a new message never."""
    assert seen(A1, A2, terms=(1, 2)).stale() == 0
    late = seen(A1, A1, A1, terms=(1, 2, 1))
    assert (late.stale(), late.stale(only_new=True)) == (1, 0)
    worse = seen(A1, A1, A2, terms=(1, 2, 1))
    assert (worse.stale(), worse.stale(only_new=True)) == (1, 1)
    assert worse.last_term() == 2


def test_terms_are_compared_within_a_partition_only() -> None:
    history = seen(A1, A2, terms=(1, 2))
    history.add(Envelope("b1", "/s", "t", "b", b"{}", sequence=1, term=1), 1)
    assert history.stale() == 0
