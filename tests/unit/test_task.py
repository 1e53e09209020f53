"""Task: any record is one, with a name for its key that PostgreSQL can keep (C9, C19)."""

import pytest

from consumers.task import task_of
from outbox.errors import MessageRejected
from tests.unit.tasks import TOPIC, broken_record, record_of


@pytest.mark.parametrize(
    ("key", "stream"),
    [
        (b"a", f"{TOPIC}/a"),
        (b"\x00", f"{TOPIC}/\\0"),
        (b"\xff", f"{TOPIC}/\N{REPLACEMENT CHARACTER}"),
        (b"k" * 1_000_000, f"{TOPIC}/{'k' * 255}"),
        (b"", None),
        (None, None),
    ],
)
def test_a_broken_record_parks_its_key_where_it_has_one(key: bytes, stream: str | None) -> None:
    task = task_of(broken_record(key, 3))
    assert isinstance(task.content, MessageRejected)
    assert task.stream == stream
    assert task.lane == (stream or (TOPIC, 0, 3))


def test_a_task_counts_all_bytes_that_it_holds() -> None:
    record = record_of("a", 0)
    larger = record._replace(value=b"x" * 10_000)
    assert task_of(larger).bytes - task_of(record).bytes == 10_000 - len(record.value or b"")
