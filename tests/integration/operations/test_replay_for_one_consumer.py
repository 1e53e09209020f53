"""A replay for one consumer: its records are on the topic of all, and the others pass them over."""

from collections.abc import Sequence

import psycopg
import pytest

from consumers.projections.projection import Change
from consumers.projections.testing.memory import MemoryProjection
from consumers.settings import Settings
from outbox.kafka import has_committed
from outbox.relay.relay import Relay
from schemas.catalog import ItemEvent
from tests.kit.aged import fetch
from tests.kit.load.relaying import relay_all
from tests.kit.load.roles import projecting, running
from tests.kit.operations import replaying
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

Connection = psycopg.AsyncConnection


class Named(MemoryProjection):
    """A consumer with a name of its own, which counts what it applies."""

    def __init__(self, name: str) -> None:
        super().__init__([ItemEvent.aggregate], [ItemEvent.topic])
        self.name = name
        self.applied = 0

    async def apply(self, changes: Sequence[Change]) -> None:
        self.applied += len(changes)
        await super().apply(changes)


UPSERT = """
SELECT outbox.publish('catalog.item', 'c/' || n % 5, 'catalog.item-upserted.v1', jsonb_build_object(
    'catalog_id', 'c', 'item_id', (n % 5)::text, 'name', 'n' || n, 'text', 't',
    'attributes', '{}'::jsonb)) FROM generate_series(1, 20) AS n
"""


async def test_a_replay_for_one_consumer_is_passed_over_by_the_others(
    settings: Settings, postgres: Connection
) -> None:
    """Its store had lost everything; another store that had, too, stays as it is."""
    one, other = Named("one"), Named("other")
    roles = (Relay(settings), projecting(settings, one), projecting(settings, other))
    async with running(*roles):
        await postgres.execute(UPSERT)

        async def both_show_all() -> bool:
            return all(len(each.state) == 5 and each.applied >= 20 for each in (one, other))

        await until(both_show_all, replaying.LONG)
        whole = dict(one.state)
        one.state.clear()
        other.state.clear()
        await replaying.replay_now(settings, postgres, consumer="one")

        async def it_is_back() -> bool:
            return one.state == whole

        await until(it_is_back, replaying.LONG)
        known = await has_committed(settings.kafka_url, "aftercommit.one", [ItemEvent.topic])
        # What comes behind the replay is applied by both, so the other one has passed it.
        await postgres.execute(UPSERT.replace("1, 20", "21, 21"))

        async def both_have_the_next() -> bool:
            return all(any(c.version == 5 for c in each.state.values()) for each in (one, other))

        await until(both_have_the_next, replaying.LONG)
    assert len(other.state) == 1
    assert known
    assert not await has_committed(settings.kafka_url, "aftercommit.nobody", [ItemEvent.topic])


LETTER = """
INSERT INTO outbox.dead_letters
    (consumer, topic, partition, "offset", key, headers, stream, reason, error, attempts, status)
VALUES ('other', 'catalog.item.events', 0, -1, 'c/0', '[]', 'catalog.item.events/c/0', 'planted',
        'planted', 1, 'dead')
"""
LETTERS = "SELECT count(*) FROM outbox.dead_letters WHERE consumer = 'other'"


async def test_a_replay_for_one_consumer_does_not_wait_at_another_ones_parked_key(
    settings: Settings, postgres: Connection
) -> None:
    """I12: a consumer for which a record is not meant gets no dead letter of it either."""
    await postgres.execute(LETTER)
    await postgres.execute(UPSERT)
    await relay_all(settings, postgres)
    other = Named("other")
    async with running(Relay(settings), projecting(settings, other)):
        await replaying.replay_now(settings, postgres, consumer="one")
        # What comes behind the replay: a message of every key.
        await postgres.execute(UPSERT.replace("1, 20", "21, 25"))

        async def all_has_come() -> bool:
            shown = [each.version for each in other.state.values()]
            return shown == [5] * 4 and await fetch(postgres, LETTERS) >= [(6,)]

        await until(all_has_come, replaying.LONG)
    assert await fetch(postgres, LETTERS) == [(6,)], "the planted one, and five live messages"
