"""The catalog's rules: what counts as a change of an item (FA5)."""

from itertools import permutations

import pytest

from consumers.mappings.catalog import to_text
from services.catalog.model import Attribute, CatalogItem, find_changed

# Python takes all of a line for equal, or their texts are the same.
ALIKE: list[list[Attribute]] = [[True, 1.0, "1", "true"], [False, 0.0, "0", "false"], ["", "0"]]
PAIRS = [pair for alike in ALIKE for pair in permutations(alike, 2)]


def item(value: Attribute) -> CatalogItem:
    return CatalogItem("c", "i", "n", "t", {"lit": value})


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_value_of_another_type_is_a_change(before: Attribute, after: Attribute) -> None:
    assert find_changed([item(after)], {"i": item(before)}) == [item(after)]


@pytest.mark.parametrize("value", [True, 1.0, "1", "true", 0.1])
def test_the_same_value_is_none(value: Attribute) -> None:
    assert find_changed([item(value)], {"i": item(value)}) == []


def test_what_is_new_is_a_change() -> None:
    assert find_changed([item(1.0)], {}) == [item(1.0)]


@pytest.mark.parametrize(("one", "other"), [*PAIRS, ("1e+16", 1e16), ('"1"', "1"), ("nan", "NaN")])
def test_two_values_have_two_names_in_the_graph(one: Attribute, other: Attribute) -> None:
    assert to_text(one) != to_text(other)
