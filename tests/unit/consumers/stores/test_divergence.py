"""Divergence: which keys stop at which change, and what an operator sees of it."""

import pytest

from consumers.projections import divergence
from consumers.projections.divergence import Divergence, refuse_divergent, split_divergent
from consumers.projections.testing.sample import catalog_items
from outbox.errors import MessageRejected
from tests.kit.captured import captured

sample = catalog_items()


def test_the_same_event_again_is_no_divergence() -> None:
    one = sample.upserted("a", 1)
    assert split_divergent([one, one], {one.stream: one.identity}) == ([one, one], [])


def test_a_key_stops_at_its_first_divergence_and_others_flow() -> None:
    first, twin, later = sample.upserted("a", 1), sample.twin("a", 1), sample.upserted("a", 2)
    other = sample.upserted("b", 1)
    flowing, stopped = split_divergent([first, twin, later, other, twin], {})
    assert flowing == [first, other]
    assert stopped == [Divergence(twin, first.identity)]


def test_a_higher_version_does_not_hide_what_the_store_shows_otherwise() -> None:
    twin, later = sample.twin("a", 1), sample.upserted("a", 2)
    stored = sample.upserted("a", 1).identity
    assert split_divergent([twin, later], {twin.stream: stored}) == ([], [Divergence(twin, stored)])


def test_a_divergence_is_one_line_with_the_key_and_both_digests() -> None:
    first, twin = sample.upserted("a", 1), sample.twin("a", 1)
    with captured(divergence) as lines, pytest.raises(MessageRejected, match="suite/a") as caught:
        refuse_divergent("memory", [Divergence(twin, first.identity)])
    assert caught.value.reason == "diverged"
    (line,) = lines
    assert (line["log_level"], line["projection"], line["key"]) == ("error", "memory", "suite/a")
    assert (line["digest"], line["shown_digest"]) == (twin.digest, first.digest)
    assert (line["event_id"], line["shown_event_id"]) == (twin.event_id, first.event_id)
    assert line["version"] == 1


def test_nothing_is_said_where_nothing_diverges() -> None:
    with captured(divergence) as lines:
        refuse_divergent("memory", [])
    assert lines == []
