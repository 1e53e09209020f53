"""R16: a record says both when its event happened and when it was sent."""

from datetime import UTC, datetime, timedelta
from typing import ClassVar

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from consumers.settings import Settings
from outbox.relay.parked_repair import list_parked
from outbox.relay.relay import Relay
from outbox.write.database import Database
from tests.conftest import Servers
from tests.kit.load.roles import running
from tests.kit.topics import PARTITIONS, all_done
from tests.kit.verdicts.history import Happened
from tests.kit.verdicts.witness import Witness

# mypy: disable-error-code="attr-defined"
# (confluent_kafka re-exports the names of its admin client without saying so)

pytestmark = pytest.mark.anyio

EVENTS = 60

# In the same transaction, as if it had waited there for two days.
AGE = "UPDATE outbox.messages SET created_at = created_at - interval '2 days'"


class Old(Happened):
    """An event for a topic that refuses what is older than a minute."""

    topic: ClassVar[str] = "timestamps.narrow.events"


async def commit_old_events(settings: Settings, event: type[Happened]) -> None:
    async with Database(settings, "load") as database, database.unit_of_work("old") as uow:
        for number in range(EVENTS):
            uow.publish(event(thing=f"thing-{number % 5}"))
        await uow.commit()
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as connection:
        await connection.execute(AGE)


async def test_a_record_is_stamped_when_it_is_sent_and_tells_when_it_happened(
    settings: Settings, witness: Witness
) -> None:
    """R16: an event that has waited for long does not become a record of long ago."""
    await commit_old_events(settings, Happened)
    async with running(Relay(settings)):
        verdict = await witness.saw_all()
    assert verdict.right, verdict
    now, day = datetime.now(UTC), timedelta(days=1)
    for happened, sent in witness.times:
        assert happened is not None
        assert timedelta(days=1) < now - happened < timedelta(days=3)
        assert abs(now - sent) < day


async def test_a_broker_that_refuses_old_timestamps_takes_old_events(
    servers: Servers, settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """R16: message.timestamp.before.max.ms is a minute, and the events are two days old."""
    if not servers.real_kafka:
        pytest.skip("the mock broker takes every timestamp")
    narrow = {"message.timestamp.before.max.ms": "60000"}
    admin = AdminClient({"bootstrap.servers": settings.kafka_url})
    topic = NewTopic(Old.topic, PARTITIONS, 1, config=narrow)
    all_done(admin.create_topics([topic]).values())
    await commit_old_events(settings, Old)
    async with Witness(settings, Old.topic) as witness, running(Relay(settings)):
        verdict = await witness.saw_all()
    assert verdict.right, verdict
    assert await list_parked(postgres) == []
