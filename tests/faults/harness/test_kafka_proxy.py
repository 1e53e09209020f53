"""The Kafka proxy keeps its clients, and each rule does what it says to one Produce request."""

import asyncio

import pytest

from outbox.errors import DependencyDown
from outbox.kafka import Publisher, Record, Subscriber, count_records
from tests.kit.proxies.kafka_proxy import (
    Answer,
    Api,
    Frames,
    Hold,
    KafkaProxy,
    LoseAnswer,
    Rule,
    frame_of,
)
from tests.kit.proxies.toxics import Slicer
from tests.kit.verdicts.history import TOPIC
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 30.0
FETCH = 1
UNKNOWN_TOPIC = 3
OUT_OF_ORDER_SEQUENCE = 45
PUBLISHER_SECONDS = 3.0


def record(number: int) -> Record:
    return Record(number, TOPIC, b"k", b"%d" % number, [])


async def held(kafka_url: str) -> int:
    """Return how many records the topic holds, by the broker's own account."""
    return (await count_records(kafka_url, [TOPIC]))[TOPIC]


async def holds(kafka_url: str, count: int) -> bool:
    return await held(kafka_url) == count


async def test_a_producer_stays_behind_the_proxy(proxy: KafkaProxy, kafka_url: str) -> None:
    async with Publisher(proxy.address, PUBLISHER_SECONDS) as publisher:
        await publisher.send([record(1)])
        assert proxy.requests[Api.PRODUCE] >= 1  # a real broker may not be ready for the first
        assert proxy.requests[Api.INIT_PRODUCER_ID] >= 1
        assert await held(kafka_url) == 1
        await proxy.down()
        with pytest.raises(DependencyDown):
            await publisher.send([record(2)])
    assert await held(kafka_url) == 1


async def test_a_consumer_stays_behind_the_proxy(proxy: KafkaProxy, kafka_url: str) -> None:
    async with Publisher(kafka_url, WITHIN_SECONDS) as publisher:
        await publisher.send([record(1)])
    async with Subscriber(proxy.address, "behind", [TOPIC], 6_000, 1 << 20) as subscriber:
        async with asyncio.timeout(WITHIN_SECONDS):
            while not await subscriber.receive(10, 100):
                pass
    assert proxy.requests[Api.FIND_COORDINATOR] > 0
    assert proxy.requests[FETCH] > 0


async def test_what_leaves_the_proxy_in_slices_is_understood(
    proxy: KafkaProxy, kafka_url: str
) -> None:
    with proxy.toxic(Slicer(7)):
        async with Publisher(proxy.address, WITHIN_SECONDS) as publisher:
            await publisher.send(map(record, range(40)))
    assert await held(kafka_url) == 40


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1_000])
def test_frames_may_come_in_any_pieces(size: int) -> None:
    frames = [b"first", b"", b"third one", b"x" * 300]
    stream = b"".join(map(frame_of, frames))
    wire = Frames()
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert [frame for piece in pieces for frame in wire.feed(piece)] == frames


async def send_under_rule(proxy: KafkaProxy, rule: Rule, why: str | None = None) -> None:
    """Send a record, and then another one under the rule, by which it must fail."""
    async with Publisher(proxy.address, PUBLISHER_SECONDS) as publisher:
        await publisher.send([record(1)])
        proxy.add_rule(rule)
        with pytest.raises(DependencyDown, match=why):
            await publisher.send([record(2)])


async def test_a_held_request_arrives_after_its_client_has_gone(
    proxy: KafkaProxy, kafka_url: str
) -> None:
    hold = Hold()
    await send_under_rule(proxy, hold)
    assert hold.happened.is_set()
    assert await held(kafka_url) == 1
    hold.release()
    await until(lambda: holds(kafka_url, 2), WITHIN_SECONDS)


@pytest.mark.parametrize("silent", [False, True])
async def test_a_lost_answer_leaves_what_was_done(
    proxy: KafkaProxy, kafka_url: str, silent: bool
) -> None:
    lose = LoseAnswer(times=100, silent=silent)
    await send_under_rule(proxy, lose)
    assert lose.happened.is_set()
    assert await held(kafka_url) >= 2
    proxy.end_rules()
    async with Publisher(proxy.address, PUBLISHER_SECONDS) as publisher:
        await publisher.send([record(2)])


@pytest.mark.parametrize("done", [False, True])
async def test_an_error_is_told_whether_it_was_done_or_not(
    proxy: KafkaProxy, kafka_url: str, done: bool
) -> None:
    await send_under_rule(
        proxy, Answer(error=OUT_OF_ORDER_SEQUENCE, done=done), "OutOfOrderSequence"
    )
    assert await held(kafka_url) == 1 + done


async def test_a_producer_may_be_given_up_while_a_batch_waits_to_be_repeated(
    proxy: KafkaProxy, kafka_url: str
) -> None:
    """R13: aiokafka keeps such a batch apart, and its end must not be an error in the loop."""
    async with Publisher(proxy.address, PUBLISHER_SECONDS) as publisher:
        await publisher.send([record(1)])
        proxy.add_rule(Answer(times=100, error=UNKNOWN_TOPIC, done=False))
        proxy.add_rule(Hold(times=100, api=Api.METADATA))
        with pytest.raises(DependencyDown):
            await publisher.send([record(2)])
    assert await held(kafka_url) == 1


async def test_a_rule_is_for_so_many_requests_only(proxy: KafkaProxy, kafka_url: str) -> None:
    rule = Answer(times=0, error=OUT_OF_ORDER_SEQUENCE, done=False)
    proxy.add_rule(rule)
    async with Publisher(proxy.address, PUBLISHER_SECONDS) as publisher:
        await publisher.send([record(1)])
    assert (rule.taken, rule.happened.is_set()) == (0, False)
    assert await held(kafka_url) == 1


async def test_a_broker_with_another_name_is_not_let_past(kafka_url: str) -> None:
    """Otherwise its clients would leave the proxy unseen."""
    named = kafka_url.replace("127.0.0.1", "localhost")
    with pytest.raises(ExceptionGroup) as raised:
        async with KafkaProxy(named) as proxy:
            with pytest.raises(DependencyDown):
                await held(proxy.address)
    assert "does not call itself localhost" in repr(raised.value)


async def test_a_rule_is_for_one_kind_of_request(proxy: KafkaProxy) -> None:
    hold = Hold(api=Api.INIT_PRODUCER_ID)
    proxy.add_rule(hold)
    starting = asyncio.create_task(_send_one(proxy.address))
    async with asyncio.timeout(WITHIN_SECONDS):
        await hold.happened.wait()
        assert proxy.requests[Api.PRODUCE] == 0
        hold.release()
        await starting
    assert proxy.requests[Api.PRODUCE] >= 1


async def _send_one(address: str) -> None:
    async with Publisher(address, WITHIN_SECONDS) as publisher:
        await publisher.send([record(1)])
