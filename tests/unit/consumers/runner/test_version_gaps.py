"""VersionGaps: a missing version is noticed as soon as a later one is applied (C15)."""

import pytest

from consumers.runner import version_gaps
from consumers.runner.version_gaps import VersionGaps
from consumers.runner.work_item import WorkItem, read_work_item
from tests.kit.captured import captured
from tests.kit.consumers.work_items import TOPIC, record_of


def version(key: str, number: int | None) -> WorkItem:
    return read_work_item(record_of(key, 0, version=number))


def gaps_in(*items: WorkItem, keys: int = 100) -> int:
    return VersionGaps("test", keys).count_gaps(items)


def test_a_version_that_never_came_is_said_with_those_around_it() -> None:
    """C15: the warning names the versions before and after the gap."""
    with captured(version_gaps) as logs:
        assert gaps_in(version("a", 4), version("a", 6), version("a", 7)) == 1
    assert logs == [
        {
            "event": "versions are missing",
            "log_level": "warning",
            "consumer": "test",
            "stream": f"{TOPIC}/a",
            "after": 4,
            "before": 6,
        }
    ]


@pytest.mark.parametrize(
    "items",
    [
        [version("a", 1), version("a", 2), version("b", 1), version("b", 2)],
        [version("a", 7)],  # where retention or a new group begins
        [version("a", 1), version("a", 2), version("a", 1), version("a", 2), version("a", 3)],
        [version("a", None), version("a", None)],  # commands have none
    ],
)
def test_repetitions_and_beginnings_are_no_gaps(items: list[WorkItem]) -> None:
    assert gaps_in(*items) == 0


def test_memory_is_bounded_by_forgetting_the_key_that_changed_longest_ago() -> None:
    items = [version("a", 1), version("b", 1), version("b", 2), version("c", 1)]
    seen = VersionGaps("test", 2)
    seen.count_gaps(items)
    assert seen.count_gaps([version("b", 4)]) == 1
    assert seen.count_gaps([version("a", 9)]) == 0


def test_none_are_remembered_where_the_setting_says_so() -> None:
    assert gaps_in(version("a", 1), version("a", 5), keys=0) == 0
