"""What the drill measures, and what it compares by, notices each thing that it must notice."""

import mmap
import time

from stack.drill.contents import Content, find_touched
from stack.drill.outcome import DrillOutcome, Measurement, StoreOutcome
from stack.drill.planting import plan
from stack.process.memory_peak import LOOK_SECONDS, peak

ONCE = [f"once-{n}" for n in range(2_000)]
TWICE = [f"twice-{n}" for n in range(100)]


def test_a_plan_breaks_each_key_once_and_says_the_same_for_the_same_seed() -> None:
    planned = plan(ONCE, TWICE, 10_000, seed=1)
    sizes = {kind.value: len(streams) for kind, streams in planned.streams().items()}
    assert sizes == {"missing": 50, "stale": 30, "orphaned": 10, "different": 20, "foreign": 0}
    assert len(set().union(*planned.streams().values())) == planned.keys == 110
    assert set(planned.stale) <= set(TWICE)
    assert plan(ONCE, TWICE, 10_000, seed=1) == planned != plan(ONCE, TWICE, 10_000, seed=2)


def test_what_changed_came_or_went_is_touched_and_what_was_written_is_not() -> None:
    before = {name: Content(b"x") for name in ("Item a", "Item b", "Item c", "Item live")}
    after = {"Item a": Content(b"x"), "Item b": Content(b"y"), "Item d": Content(b"x")}
    assert find_touched(before, after, frozenset({"live"})) == ["Item b", "Item c", "Item d"]


def test_a_vector_beside_is_the_same_but_for_its_last_bits() -> None:
    before = {"a": Content(b"x", (0.5, 0.25))}
    assert find_touched(before, {"a": Content(b"x", (0.5 + 1e-8, 0.25))}, frozenset()) == []
    assert find_touched(before, {"a": Content(b"x", (0.5, 0.2501))}, frozenset()) == ["a"]


def test_a_peak_is_seen_though_it_is_over() -> None:
    # Memory of the kernel, not what this process has freed before; held until it was looked at.
    with peak() as seen, mmap.mmap(-1, 64 * 1024 * 1024) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        time.sleep(10 * LOOK_SECONDS)
    assert seen.growth_bytes > 32 * 1024 * 1024
    assert seen.seconds > 0


def test_one_wrong_figure_makes_the_drill_wrong() -> None:
    took = Measurement(seconds=1, peak_mebibytes=1)
    right = StoreOutcome(
        projection="qdrant", found={}, wrong=0, applied=1, forgotten=1, failed=0, left=0,
        check=took, repair=took, check_again=took,
    )  # fmt: skip
    outcome = DrillOutcome(keys=1, planted={}, written=1, stores=[right, right])
    assert outcome.right
    for figure in ("wrong", "failed", "left", "touched"):
        other = right.model_copy(update={figure: 1})
        assert not outcome.model_copy(update={"stores": [right, other]}).right
