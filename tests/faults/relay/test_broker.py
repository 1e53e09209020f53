"""The broker misbehaves: R5, R6, R8, R10, and slow, sliced and broken connections.

The relay goes through a proxy, and the witness to the broker itself. The history is judged by
I2-I5.
"""

import asyncio

import psycopg
import pytest

from consumers.settings import Settings
from outbox.errors import DependencyDown
from outbox.kafka import Publisher
from outbox.relay.parked_repair import list_parked
from outbox.relay.relay import Relay
from outbox.status import read_status
from tests.conftest import Servers
from tests.kit.load.load import commit_events
from tests.kit.load.relaying import wait_until_relayed
from tests.kit.load.roles import running
from tests.kit.planted.planted_patches import reused_producer
from tests.kit.proxies.kafka_proxy import ALWAYS, Answer, Api, Hold, KafkaProxy, LoseAnswer
from tests.kit.proxies.proxy import DOWN, UP
from tests.kit.proxies.toxics import Bandwidth, Latency, LimitData, ResetPeer, Slicer, Toxic
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

EVENTS = 60
WITHIN_SECONDS = 60.0


@pytest.fixture
def behind(settings: Settings, proxy: KafkaProxy) -> Settings:
    """Return the relay's settings: the proxy's address, and deadlines that a test can wait for."""
    update = {
        "kafka_url": proxy.address, "publish_timeout_seconds": 1.0, "lease_seconds": 4.0,
    }  # fmt: skip
    return settings.model_copy(update=update)


async def publish_events(
    behind: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """Commit events, and wait until all are on their topic and the relay has recorded it."""
    await commit_events(behind, EVENTS)
    await witness.saw_all()
    await wait_until_relayed(postgres, WITHIN_SECONDS)


async def publish_the_last(behind: Settings, witness: Witness) -> None:
    """Commit the last third of the events; all must be on their topic then, in order."""
    await commit_events(behind, EVENTS)
    verdict = await witness.saw_all()
    assert verdict.at_least_once, verdict
    assert verdict.committed == 3 * EVENTS


@pytest.mark.parametrize("silent", [False, True])
async def test_a_lost_acknowledgement_costs_faithful_duplicates_of_one_page(
    servers: Servers,
    behind: Settings,
    proxy: KafkaProxy,
    witness: Witness,
    postgres: psycopg.AsyncConnection,
    silent: bool,
) -> None:
    """R6, I5: they have the same id and the same bytes; a silent producer is replaced."""
    await commit_events(behind, EVENTS)
    async with running(Relay(behind)):
        await witness.saw_all()
        await wait_until_relayed(postgres, WITHIN_SECONDS)
        producers = proxy.requests[Api.INIT_PRODUCER_ID]
        proxy.add_rule(lose := LoseAnswer(silent=silent))
        await commit_events(behind, EVENTS)
        await asyncio.wait_for(lose.happened.wait(), WITHIN_SECONDS)
        await witness.saw_all()
        await wait_until_relayed(postgres, WITHIN_SECONDS)
        await commit_events(behind, EVENTS)
        verdict = await witness.saw_all()
    assert verdict.at_least_once, verdict
    if (
        silent or not servers.real_kafka
    ):  # a real broker knows the repetition of a producer that goes on
        assert 0 < witness.seen.copies <= EVENTS
    if silent:
        assert proxy.requests[Api.INIT_PRODUCER_ID] > producers


# (error, whether the broker has done it, whether the producer may go on by itself)
ERRORS = {
    "OUT_OF_ORDER_SEQUENCE_NUMBER": (45, False, False),
    "UNKNOWN_PRODUCER_ID": (59, False, False),
    "INVALID_PRODUCER_EPOCH": (47, False, False),
    "PRODUCER_FENCED": (90, False, False),
    "UNKNOWN_PRODUCER_ID, though it was done": (59, True, False),
    "NOT_ENOUGH_REPLICAS": (19, False, True),
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": (20, True, True),
    "REQUEST_TIMED_OUT": (7, False, True),
    "KAFKA_STORAGE_ERROR": (56, False, True),
}


@pytest.mark.parametrize(("error", "done", "goes_on"), ERRORS.values(), ids=ERRORS)
async def test_an_error_of_the_broker_loses_and_reorders_nothing_and_parks_no_key(
    behind: Settings,
    proxy: KafkaProxy,
    witness: Witness,
    postgres: psycopg.AsyncConnection,
    error: int,
    done: bool,
    goes_on: bool,
) -> None:
    """R8: a new producer sends again from the first unacknowledged message on."""
    async with running(Relay(behind)):
        await publish_events(behind, witness, postgres)
        producers = proxy.requests[Api.INIT_PRODUCER_ID]
        proxy.add_rule(answer := Answer(error=error, done=done, times=2))
        await commit_events(behind, EVENTS)
        verdict = await witness.saw_all()
        await wait_until_relayed(postgres, WITHIN_SECONDS)
    assert verdict.at_least_once, verdict
    assert answer.happened.is_set()
    assert await list_parked(postgres) == []
    if not goes_on:
        assert proxy.requests[Api.INIT_PRODUCER_ID] > producers
    if not done:
        assert witness.seen.copies == 0


async def test_an_error_that_lasts_is_waited_out(
    behind: Settings, proxy: KafkaProxy, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """R8: there are too few replicas for longer than any deadline of ours."""
    await commit_events(behind, EVENTS)
    proxy.add_rule(Answer(error=19, done=False, times=ALWAYS))
    async with running(Relay(behind)):
        await until(lambda: has_producers(proxy, 3), WITHIN_SECONDS)
        assert (await read_status(postgres)).published == 0
        proxy.end_rules()
        verdict = await witness.saw_all()
    assert verdict.right, verdict
    assert await list_parked(postgres) == []


async def has_producers(proxy: KafkaProxy, count: int) -> bool:
    return proxy.requests[Api.INIT_PRODUCER_ID] >= count


async def test_a_send_that_arrives_after_its_time_is_a_duplicate_only(
    behind: Settings, proxy: KafkaProxy, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """R10, I4, I5: it was given up and sent again, and much has been published since."""
    proxy.add_rule(hold := Hold())
    await commit_events(behind, EVENTS)
    async with running(Relay(behind)):
        await asyncio.wait_for(hold.happened.wait(), WITHIN_SECONDS)
        await witness.saw_all()
        await publish_events(behind, witness, postgres)
        assert witness.seen.copies == 0
        hold.release()
        await witness.saw_copies()
        await publish_the_last(behind, witness)


async def outlive_an_outage(
    behind: Settings, proxy: KafkaProxy, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """Let the broker refuse connections while the relay tries several times, and then take them."""

    async def tried() -> bool:
        return (await read_status(postgres)).relay_term >= 5

    async with running(Relay(behind)):
        await publish_events(behind, witness, postgres)
        await proxy.down()
        await commit_events(behind, EVENTS)
        await until(tried, WITHIN_SECONDS)
        await proxy.up()
        await witness.saw_all()
        await wait_until_relayed(postgres, WITHIN_SECONDS)
        await publish_the_last(behind, witness)


async def test_what_was_never_sent_does_not_come_twice(
    behind: Settings, proxy: KafkaProxy, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """R5, G23: a producer that was given up keeps nothing for later."""
    await outlive_an_outage(behind, proxy, witness, postgres)
    assert witness.seen.copies == 0


async def test_a_producer_that_is_used_again_is_caught_repeating_itself(
    behind: Settings, proxy: KafkaProxy, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """M09."""
    async with reused_producer():
        await outlive_an_outage(behind, proxy, witness, postgres)
    assert witness.seen.copies > 0


# (what is wrong with the line, how many connections are to be tried at least)
BAD_LINES: dict[str, tuple[Toxic, int]] = {
    "latency": (Latency(0.05, jitter=0.05), 2),
    "slices": (Slicer(10), 2),
    "bandwidth": (Bandwidth(60_000), 2),
    "limit": (LimitData(20_000), 5),
    "resets": (ResetPeer(0.25), 5),
}


@pytest.mark.parametrize(("toxic", "connections"), BAD_LINES.values(), ids=BAD_LINES)
async def test_a_bad_line_delays_but_loses_and_reorders_nothing(
    behind: Settings, proxy: KafkaProxy, witness: Witness, toxic: Toxic, connections: int
) -> None:
    """I2-I5: every connection is slow, comes in pieces, or ends after a while."""
    small = behind.model_copy(update={"page_messages": 20})
    with proxy.toxic(toxic, UP, DOWN):
        async with running(Relay(small)), asyncio.timeout(4 * WITHIN_SECONDS):
            rounds = 0
            while rounds < 6 or proxy.accepted < connections:
                rounds += 1
                await commit_events(behind, EVENTS)
                verdict = await witness.saw_all()
                assert verdict.at_least_once, verdict
    assert verdict.committed == rounds * EVENTS


async def test_a_publisher_whose_start_was_given_up_leaves_nothing_behind(
    proxy: KafkaProxy,
) -> None:
    """R5, R9: otherwise each attempt at a broker that half answers leaves a client for ever."""
    proxy.add_rule(hold := Hold(api=Api.INIT_PRODUCER_ID))
    before = clients()
    with pytest.raises(DependencyDown):
        async with Publisher(proxy.address, 1.0):
            pass
    assert hold.happened.is_set()
    assert clients() == before


def clients() -> set[str]:
    """Return the tasks of aiokafka that exist now."""
    tasks = [task.get_coro() for task in asyncio.all_tasks()]
    return {name for task in tasks if "Client" in (name := getattr(task, "__qualname__", ""))}


async def test_a_page_that_is_too_long_for_its_deadline_is_published_all_the_same(
    behind: Settings, proxy: KafkaProxy, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """R5: the line is so slow that a whole page takes many times publish_timeout_seconds."""
    await commit_events(behind, 250)
    with proxy.toxic(Bandwidth(60_000), UP):
        async with running(Relay(behind)):
            await wait_until_relayed(postgres, WITHIN_SECONDS)
    verdict = await witness.saw_all()
    assert verdict.at_least_once, verdict
