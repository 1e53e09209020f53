"""Tail: offsets that were skipped are noticed; the broker's client is a stand-in here."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from outbox.errors import DependencyDown
from outbox.kafka import Tail

pytestmark = pytest.mark.anyio

AT = TopicPartition("t", 0)


def record(offset: int) -> Any:
    return SimpleNamespace(
        topic="t", partition=0, offset=offset, key=b"k", value=b"v", headers=(), timestamp=0
    )


class Client:
    """A stand-in for the client that has these records and whose partition begins at `first`."""

    def __init__(self, first: int, *offsets: int) -> None:
        self.first = first
        self.records = [record(offset) for offset in offsets]

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        return {AT: self.records}

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> Any:
        return dict.fromkeys(partitions, self.first)


def tail(client: Any) -> Tail:
    made = Tail.__new__(Tail)
    made._consumer = client
    made._partitions = [AT]
    made._next = {AT: 5}
    return made


async def test_records_come_in_order_and_a_marker_between_them_is_no_loss() -> None:
    next_client: Any = Client(0, 8)
    following = tail(Client(0, 5, 6))
    assert [each.offset for each in await following.next_records(10, 1)] == [5, 6]
    following._consumer = next_client
    assert [each.offset for each in await following.next_records(10, 1)] == [8]


async def test_records_that_were_removed_before_they_were_read_are_noticed() -> None:
    """C3: a reader must not go on at an offset that the broker chose."""
    with pytest.raises(DependencyDown, match="removed before they were read"):
        await tail(Client(7, 7, 8)).next_records(10, 1)
