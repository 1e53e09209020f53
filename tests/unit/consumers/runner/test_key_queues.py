"""KeyQueues: each key in order, no key in two batches, and no batch larger than it may be."""

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.runner.key_queues import KeyQueues, WorkBatch
from consumers.runner.work_item import WorkItem, read_work_item
from tests.kit.consumers.work_items import broken_record, item, record_of, retried


def queues_of(batch: int, *items: WorkItem, apart: frozenset[str] = frozenset()) -> KeyQueues:
    queues = KeyQueues(batch, lambda item: item.stream in apart)
    for each in items:
        queues.add(each)
    return queues


def take_from(queues: KeyQueues) -> tuple[WorkBatch, list[int]]:
    batch = queues.take()
    assert batch is not None
    return batch, [item.record.offset for item in batch.items]


def test_a_batch_takes_leading_messages_of_several_keys() -> None:
    queues = queues_of(4, item("a", 0), item("b", 1), item("a", 2), item("b", 3), item("c", 4))
    batch, offsets = take_from(queues)
    assert offsets == [0, 2, 1, 3]
    queues.add(item("a", 5))
    _, rest = take_from(queues)
    assert rest == [4], "a key with a running batch must wait"
    queues.finish(batch)
    assert take_from(queues)[1] == [5]


def test_with_batches_of_one_keys_are_side_by_side() -> None:
    queues = queues_of(1, item("a", 0), item("a", 1), item("b", 2))
    assert [take_from(queues)[1], take_from(queues)[1]] == [[0], [2]]
    assert queues.take() is None


def test_a_batch_that_failed_comes_again_one_by_one_and_first() -> None:
    queues = queues_of(2, item("a", 0), item("b", 1), item("c", 2))
    batch, _ = take_from(queues)
    queues.split(batch)
    first, one = take_from(queues)
    _, other = take_from(queues)
    assert (one, other) == ([0], [1])
    queues.finish(first)
    queues.add(item("a", 3))
    assert take_from(queues)[1] == [2, 3], "once it has gone well, a key is in batches again"


def test_a_lane_that_waits_holds_back_its_own_key_only() -> None:
    queues = queues_of(1, item("a", 0), item("a", 1), item("b", 2))
    batch, _ = take_from(queues)
    assert take_from(queues)[1] == [2]
    queues.add(item("a", 3))
    assert queues.take() is None
    queues.resume(batch.queues[0])
    assert take_from(queues)[1] == [0]


def test_what_must_be_apart_is_in_no_batch() -> None:
    parked = item("p", 1)
    queues = queues_of(
        10, item("a", 0), parked, item("b", 2), apart=frozenset({parked.stream or ""})
    )
    assert take_from(queues)[1] == [0]
    assert take_from(queues)[1] == [1]
    assert take_from(queues)[1] == [2]


def test_a_broken_record_waits_for_what_its_key_said_before() -> None:
    """C9: otherwise it would park its key before the earlier messages are applied."""
    broken = read_work_item(broken_record(b"a", 1))
    queues = queues_of(1, item("a", 0), broken)
    batch, offsets = take_from(queues)
    assert offsets == [0]
    assert queues.take() is None
    queues.finish(batch)
    assert take_from(queues)[1] == [1]


def test_records_without_a_key_wait_for_nothing() -> None:
    nobody, other = read_work_item(broken_record(None, 0)), read_work_item(broken_record(None, 1))
    queues = queues_of(1, nobody, other)
    assert [take_from(queues)[1], take_from(queues)[1]] == [[0], [1]]


def test_what_else_was_retried_of_a_key_is_forgotten_when_one_fails() -> None:
    again = [retried("a", 0), retried("a", 1)]
    queues = queues_of(1, *(read_work_item(each.record, each) for each in again), item("a", 5))
    batch, _ = take_from(queues)
    assert [item.record.offset for item in queues.drop_retried(batch)] == [1]
    queues.finish(batch)
    assert take_from(queues)[1] == [5]


class Model:
    """Adds messages to key queues, and ends batches in any way and order."""

    def __init__(self, rng: Random, batch: int, keys: int) -> None:
        self.rng, self.batch = rng, batch
        self.queues = queues_of(batch)
        self.to_come = [item(f"k{rng.randrange(keys)}", offset) for offset in range(40)]
        self.running: list[WorkBatch] = []
        self.waiting: list[WorkBatch] = []
        self.done: dict[object, list[int]] = {}

    def run(self) -> None:
        while self.to_come or len(self.queues):
            self.rng.choice([self.add, self.take, self.finish, self.fail, self.resume])()

    def add(self) -> None:
        if self.to_come:
            self.queues.add(self.to_come.pop(0))

    def take(self) -> None:
        if (batch := self.queues.take()) is None:
            return
        self.running.append(batch)
        assert 1 <= len(batch.items) <= self.batch
        batches = (*self.running, *self.waiting)
        assert max(Counter(queue.key for each in batches for queue in each.queues).values()) == 1

    def finish(self) -> None:
        if (batch := self.drawn(self.running)) is not None:
            for each in batch.items:
                self.done.setdefault(each.queue, []).append(each.record.offset)
            self.queues.finish(batch)

    def fail(self) -> None:
        if (batch := self.drawn(self.running)) is not None:
            if len(batch.items) > 1:
                self.queues.split(batch)
            else:
                self.waiting.append(batch)

    def resume(self) -> None:
        if (batch := self.drawn(self.waiting)) is not None:
            self.queues.resume(batch.queues[0])

    def drawn(self, batches: list[WorkBatch]) -> WorkBatch | None:
        return batches.pop(self.rng.randrange(len(batches))) if batches else None


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), batch=st.integers(1, 7), keys=st.integers(1, 6))
def test_every_message_runs_once_after_all_before_it_of_its_key(
    seed: int, batch: int, keys: int
) -> None:
    """It holds whatever fails, is split or waits, in any order."""
    model = Model(Random(seed), batch, keys)
    model.run()
    done = [offset for offsets in model.done.values() for offset in offsets]
    assert sorted(done) == list(range(40))
    assert all(offsets == sorted(offsets) for offsets in model.done.values())


def test_records_of_a_key_are_those_of_its_topic() -> None:
    assert read_work_item(record_of("a", 0)).queue == "test.note.events/a"
