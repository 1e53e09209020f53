"""Retention: a day is dropped when all of it is published, and the latest messages stay; D2."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from consumers.settings import Settings
from outbox.retention import Retention
from tests.integration.aged import (
    all_published,
    days_there,
    fetch,
    past_day,
    publish,
    publish_aged,
    require_latest,
)

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection


async def test_a_published_day_is_dropped_and_every_keys_latest_message_stays(
    settings: Settings, postgres: Connection
) -> None:
    """D2: of keys that moved on, that were deleted, and that say more later."""
    await past_day(postgres, 9)
    await past_day(postgres, 5)
    await publish_aged(postgres, 9, *"aabc")
    await publish_aged(postgres, 9, "gone", deletes=True)
    await publish_aged(postgres, 5, "b")
    await publish(postgres, "c")
    await all_published(postgres)
    pruned = await Retention(postgres, settings).prune()
    day = datetime.now(UTC).date() - timedelta(days=9)
    assert (pruned.dropped, pruned.left) == ([str(day)], {})
    assert len(await days_there(postgres)) == 1
    await require_latest(postgres)
    kept = "SELECT aggregateid, version FROM outbox.kept ORDER BY 1"
    assert await fetch(postgres, kept) == [("a", 2), ("gone", 1)]
