"""The audit of a topic with replayed records: they are faithful copies, in whatever place."""

import psycopg
import pytest

from consumers.settings import Settings
from outbox.audit.audit import audit
from outbox.audit.scope import Range
from outbox.postgres.connection import connect
from tests.kit.aged import all_published
from tests.kit.load.relaying import relay_all
from tests.kit.operations import replaying

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

Connection = psycopg.AsyncConnection


LATE = "SELECT outbox.publish('test.note', 'late', 'test.noted.v1', '{}')"


async def test_the_audit_finds_a_replayed_topic_right(
    settings: Settings, postgres: Connection
) -> None:
    """A replay's records are faithful copies, whatever their term."""
    await replaying.publish_and_relay(settings, postgres)
    await replaying.replay_now(settings, postgres)
    async with await connect(settings) as connection:
        found = await audit(connection, settings, Range(), 1_000)
    assert found.right, found.findings
    whys = [each.why for each in found.findings]
    assert whys.count("replay") == replaying.MESSAGES  # a slow relay may have repeated some, too


async def test_the_audit_takes_what_its_topic_no_longer_held_for_no_reordering(
    settings: Settings, postgres: Connection
) -> None:
    """O3: the topic's retention has removed version 1, whose replay then stands behind 2.

    The removal is a stand-in: the cursor is moved past a message that was never sent.
    """
    await postgres.execute(LATE)
    await all_published(postgres)
    await postgres.execute(LATE)
    await relay_all(settings, postgres)
    assert (await replaying.replay_now(settings, postgres)).sent == 2
    versions = [each.envelope.sequence for each in await replaying.read_topic(settings)]
    assert versions == [2, 1, 2]
    async with await connect(settings) as connection:
        found = await audit(connection, settings, Range())
    assert found.right, found.findings
