"""InFlightOffsets: the offset that may be committed is below every unfinished record (I9)."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runner.in_flight_offsets import InFlightOffsets


def test_before_the_first_record_nothing_may_be_committed() -> None:
    assert InFlightOffsets().lowest is None


def test_a_record_that_comes_twice_is_refused() -> None:
    in_flight = InFlightOffsets()
    in_flight.receive(7)
    with pytest.raises(ValueError, match="offset 7 after 7"):
        in_flight.receive(7)


@given(
    gaps=st.lists(st.integers(1, 5), min_size=1, max_size=40),
    rng=st.randoms(use_true_random=False),
)
def test_the_lowest_is_that_of_a_set_in_whatever_order_records_end(
    gaps: list[int], rng: Random
) -> None:
    """Offsets have gaps, because compaction and transactions leave some."""
    in_flight, model, position = InFlightOffsets(), set[int](), 0
    waiting = list(gaps)
    while waiting or model:
        if waiting and (not model or rng.random() < 0.5):
            position += waiting.pop()
            in_flight.receive(position)
            model.add(position)
        else:
            offset = rng.choice(sorted(model))
            in_flight.finish(offset)
            model.remove(offset)
        assert in_flight.lowest == min(model, default=position + 1)
        assert len(in_flight) == len(model)
