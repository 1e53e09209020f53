"""FlowControl: memory is bounded a partition; a full one is paused, and resumed at half."""

from collections.abc import Sequence

from consumers.runner.flow_control import FlowControl
from outbox.kafka import Partition

A, B = ("topic", 0), ("topic", 1)


class Broker:
    def __init__(self) -> None:
        self.said: list[tuple[str, Partition]] = []

    def pause(self, partition: Partition) -> None:
        self.said.append(("pause", partition))

    def resume(self, partition: Partition) -> None:
        self.said.append(("resume", partition))


def flow_control(
    broker: Broker, partitions: Sequence[Partition] = (A, B), messages: int = 20, size: int = 1_000
) -> FlowControl:
    made = FlowControl(messages, size, broker.pause, broker.resume)
    made.divide(partitions)
    return made


def test_a_partition_is_paused_at_its_share_of_the_messages_and_resumed_at_half() -> None:
    broker = Broker()
    bounded = flow_control(broker)
    bounded.add(A, 9, 9)
    assert broker.said == []
    bounded.add(A, 1, 1)
    assert broker.said == [("pause", A)]
    for _ in range(4):
        bounded.release(A, 1, 1)
    assert bounded.paused == {A}
    bounded.release(A, 1, 1)
    assert broker.said == [("pause", A), ("resume", A)]
    assert bounded.messages == 5


def test_bytes_bound_it_too() -> None:
    broker = Broker()
    bounded = flow_control(broker)
    bounded.add(A, 1, 500)
    assert bounded.paused == {A}
    bounded.release(A, 1, 500)
    assert bounded.paused == set()


def test_a_full_partition_leaves_the_others_their_room() -> None:
    """C11: a key that waits for its store takes nothing from other partitions."""
    broker = Broker()
    bounded = flow_control(broker)
    bounded.add(A, 19, 100)
    bounded.add(B, 9, 9)
    assert broker.said == [("pause", A)]


def test_one_partition_may_have_all_of_it() -> None:
    broker = Broker()
    bounded = flow_control(broker, [A])
    bounded.add(A, 19, 19)
    assert broker.said == []


def test_many_partitions_that_are_over_their_share_are_all_paused_until_that_is_less() -> None:
    """C23: each by one receive only; but there are two hundred."""
    broker, many = Broker(), [("topic", number) for number in range(200)]
    bounded = flow_control(broker, many, messages=400)
    for partition in many[:13]:
        bounded.add(partition, 17, 17)
    assert bounded.paused == set(many[:13])
    bounded.add(many[13], 17, 17)
    assert bounded.paused == set(many), "14 times 15 over two each is more than half of 400"
    for partition in many[:7]:
        bounded.release(partition, 17, 17)
        assert bounded.paused == set(many)
    bounded.release(many[7], 17, 17)
    assert bounded.paused == set(many[8:14]), "what is under way goes on as it did"


def test_what_came_before_the_partitions_were_known_counts_as_well() -> None:
    broker = Broker()
    bounded = flow_control(broker, [])
    bounded.add(A, 15, 15)
    bounded.divide([A, B])
    bounded.add(B, 15, 15)
    assert bounded.paused == {A, B}
    bounded.release(A, 10, 10)
    bounded.release(B, 10, 10)
    assert bounded.paused == set()
