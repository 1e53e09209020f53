"""Times of commands: an ISO time, or a duration before now."""

from datetime import UTC, datetime, timedelta

import pytest
from typer import BadParameter

from outbox.cli.options.times import parse_instant, parse_time_or_interval


def test_a_time_without_a_zone_is_utc_and_another_zone_is_kept() -> None:
    assert parse_instant("2026-01-02T03:04") == datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    assert parse_instant("2026-01-02T03:04+02:00") == datetime(2026, 1, 2, 1, 4, tzinfo=UTC)


def test_a_duration_is_so_long_before_now() -> None:
    before = datetime.now(UTC)
    found = parse_instant("2h")
    assert found is not None
    assert before <= found + timedelta(hours=2) <= datetime.now(UTC)


def test_an_interval_is_left_to_the_clock_of_the_database() -> None:
    assert parse_time_or_interval("90s") == "90 seconds"
    assert parse_time_or_interval("2026-01-02") == datetime(2026, 1, 2)  # noqa: DTZ001 - as given


def test_nothing_said_is_no_time() -> None:
    assert parse_instant(None) is None
    assert parse_time_or_interval(None) is None


@pytest.mark.parametrize("text", ["soon", "", "1y", "999999999w", "36501d", "2026-02-30", "٣d"])
def test_anything_else_and_more_than_a_century_is_refused(text: str) -> None:
    for parse in (parse_instant, parse_time_or_interval):
        with pytest.raises(BadParameter, match="neither an ISO time nor a duration"):
            parse(text)
