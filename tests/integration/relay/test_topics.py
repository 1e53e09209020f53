"""FB5: doctor and `outbox topics` know where messages go to; FD3: a stand-in is one line."""

import json
from asyncio import to_thread
from typing import Any

import psycopg
import pytest

from consumers.settings import Settings
from outbox.kafka.admin import existing_topics
from outbox.relay.parked_repair import list_parked
from outbox.relay.partition_counts import count_keys_without_topic, read_needed_topics
from outbox.relay.relay import Relay
from outbox.status import read_status
from schemas.registry import REGISTRY
from tests.conftest import Servers
from tests.kit.load.roles import running
from tests.kit.operations.command_line import run
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

Connection = psycopg.AsyncConnection[Any]
TOPIC = "orders.order.events"
ORDER = "SELECT outbox.publish('orders.order', 'o-1', 'orders.order-placed.v1', '{}')"
PARK = """
INSERT INTO outbox.parked (aggregatetype, aggregateid, topic, position, reason)
VALUES ('parked.thing', 'k', 'parked.topic', 1, %s)
"""
WITHIN_SECONDS = 90.0


async def test_needed_topics_are_those_of_what_waits_and_of_what_was_published(
    postgres: Connection,
) -> None:
    assert await read_needed_topics(postgres) == set()
    await postgres.execute(ORDER)
    await postgres.execute("INSERT INTO outbox.topics VALUES ('used.topic', 4)")
    await postgres.execute(PARK, ["topic-missing"])
    assert await read_needed_topics(postgres) == {TOPIC, "used.topic", "parked.topic"}
    assert await count_keys_without_topic(postgres) == {"parked.topic": 1}


async def test_a_topic_is_needed_by_what_waits_behind_a_parked_key(postgres: Connection) -> None:
    """The relay has passed that message, and nothing else names its topic."""
    await postgres.execute(ORDER)
    await postgres.execute(
        "INSERT INTO outbox.parked_messages"
        " SELECT aggregatetype, aggregateid, position FROM outbox.messages"
    )
    await postgres.execute("UPDATE outbox.relay SET cursor = pg_current_snapshot()")
    assert await read_needed_topics(postgres) == {TOPIC}


async def test_who_was_released_or_waits_for_something_else_does_not_wait_for_a_topic(
    postgres: Connection,
) -> None:
    await postgres.execute(PARK, ["too-large"])
    assert await count_keys_without_topic(postgres) == {}
    await postgres.execute("UPDATE outbox.parked SET reason = 'topic-missing', released = true")
    assert await count_keys_without_topic(postgres) == {}


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    "arguments",
    [
        ("outbox", "topics"),
        ("outbox", "topics", "--topic", TOPIC),
        ("consumers", "skip-removed", "qdrant", "--reason", "a test"),
        ("consumers", "skip-removed", "qdrant", "--reason", "a test", "--dry-run"),
        ("consumers", "status"),
    ],
)
def test_a_stand_in_that_has_no_such_request_is_one_line(
    settings: Settings, arguments: tuple[str, ...]
) -> None:
    result = run(settings, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "this broker has no such request: a stand-in has no admin API, and makes topics when used"
    ]


@pytest.fixture
def stand_in(servers: Servers) -> None:
    if servers.real_kafka:
        pytest.skip("this is the real one")


@pytest.fixture
def real(servers: Servers) -> None:
    if not servers.real_kafka:
        pytest.skip("the mock broker makes topics by itself")


@pytest.mark.usefixtures("real")
async def test_a_topic_that_the_registry_does_not_know_is_found_missing_made_and_released(
    settings: Settings, postgres: Connection
) -> None:
    """From the first check to the published message, it does what each command says next."""
    await postgres.execute(ORDER)
    assert found(settings, "topic-exists") == [("failure", TOPIC)]
    # The commands run in threads: the relay needs this loop, or it loses its lease meanwhile.
    async with running(Relay(settings)):
        await until(lambda: is_parked(postgres), WITHIN_SECONDS)
        assert await to_thread(found, settings, "topic-exists") == [("failure", TOPIC)]
        assert await to_thread(found, settings, "topic-parked-keys") == [("ok", "")]
        listed = await to_thread(run, settings, "outbox", "parked", "list")
        assert f"topic {TOPIC} is missing: python -m outbox topics" in listed.stderr
        made = json.loads((await to_thread(run, settings, "outbox", "topics", "--json")).stdout)
        assert (made["created"], made["existing"]) == ([TOPIC], REGISTRY.topics())
        assert await to_thread(found, settings, "topic-exists") == [("ok", "")]
        assert await to_thread(found, settings, "topic-parked-keys") == [("failure", TOPIC)]
        listed = await to_thread(run, settings, "outbox", "parked", "list")
        release = f"python -m outbox parked release --topic {TOPIC} --reason"
        assert f"topic {TOPIC} exists now: {release}" in listed.stderr
        (parked,) = json.loads(
            (await to_thread(run, settings, "outbox", "parked", "list", "--json")).stdout
        )
        assert parked["topic_exists"] is True
        released = await to_thread(
            run, settings, "outbox", "parked", "release", "--topic", TOPIC, "--reason", "made"
        )
        assert released.returncode == 0
        await until(lambda: is_published(postgres), WITHIN_SECONDS)
    assert found(settings, "topic-parked-keys") == [("ok", "")]


def found(settings: Settings, check: str) -> list[tuple[str, str]]:
    """Return severity and subject of what doctor found there."""
    result = json.loads(run(settings, "outbox", "doctor", "--json").stdout)
    return [(f["severity"], f["subject"]) for f in result["findings"] if f["check"] == check]


async def is_parked(postgres: Connection) -> bool:
    return [each.reason for each in await list_parked(postgres)] == ["topic-missing"]


async def is_published(postgres: Connection) -> bool:
    status = await read_status(postgres)
    return (status.published, status.unpublished_keys) == (1, 0)


@pytest.mark.usefixtures("real")
async def test_named_topics_are_made_and_no_others(settings: Settings, kafka_url: str) -> None:
    there = await existing_topics(kafka_url)
    arguments = ("outbox", "topics", "--topic", "one.topic", "--topic", "another.topic")
    result = run(settings, *arguments, "--partitions", "2")
    assert result.returncode == 0, result.stderr
    assert await existing_topics(kafka_url) - there == {"one.topic", "another.topic"}
    assert "0 topics created, 2 existed" in run(settings, *arguments).stdout


@pytest.mark.usefixtures("real")
def test_what_the_broker_refuses_is_one_line_with_its_reason(settings: Settings) -> None:
    result = run(settings, "outbox", "topics", "--topic", "one.topic", "--replication", "3")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("Kafka does not make the topic one.topic: InvalidReplicationFactorError")


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "é", "x" * 250, "a/b", "a\n", "\x1b[2J"])
def test_a_name_that_kafka_would_not_take_is_refused_with_the_rule(
    settings: Settings, name: str
) -> None:
    result = run(settings, "outbox", "topics", "--topic", name)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "1 to 249 letters, digits, dots" in line


def test_topics_are_made_where_postgres_is_away(settings: Settings) -> None:
    """The command says so, and makes the topics of the registry."""
    nowhere = "postgresql://postgres:secret@127.0.0.1:1/aftercommit"
    result = run(settings, "outbox", "topics", POSTGRES_URL=nowhere)
    assert "the outbox was not asked for its topics" in result.stderr
    assert "secret" not in result.stderr
    assert "Traceback" not in result.stderr
