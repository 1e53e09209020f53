"""`outbox replay` and `consumers replay-preview` as an operator meets them."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from consumers.drift.replay_preview import find_difference
from consumers.projections.projection import Entry, StreamKey
from consumers.projections.testing.memory import MemoryProjection
from consumers.settings import Settings
from schemas.catalog import ItemEvent
from tests.kit.load.relaying import relay_all
from tests.kit.operations import replaying
from tests.kit.operations.command_line import run

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

Connection = psycopg.AsyncConnection[Any]


def told(settings: Settings, *arguments: str, code: int = 0) -> Any:
    """Run `outbox replay` and return the line of JSON that it prints."""
    ran = run(settings, "outbox", "replay", *arguments, "--json")
    assert ran.returncode == code, ran.stderr
    return json.loads(ran.stdout)


def refused(settings: Settings, *arguments: str) -> str:
    ran: subprocess.CompletedProcess[str] = run(settings, "outbox", "replay", *arguments)
    assert ran.returncode == 2, ran.stdout
    return ran.stderr


async def test_a_replay_from_its_preview_to_its_end(
    settings: Settings, postgres: Connection
) -> None:
    await replaying.publish_and_relay(settings, postgres, 40)
    found = told(settings, "preview", "--key", "k1", "--key", "k2", "--rate", "2")
    assert (found["messages"], found["seconds"]) == (8, 4.0)
    assert found["counts"] == [
        {"topic": replaying.TOPIC, "type": "test.noted.v1", "messages": 4},
        {"topic": replaying.TOPIC, "type": "test.noted.v2", "messages": 4},
    ]
    why = ("--reason", "ticket 7")
    later = told(settings, "start", "--key", "k1", "--rate", "50", "--later", *why)
    assert (later["status"], later["sent"], later["keys"]) == ("running", 0, ["k1"])
    number = str(later["id"])
    assert told(settings, "pause", number, *why)["status"] == "paused"
    assert told(settings, "run", number, code=1)["status"] == "paused"
    done = told(settings, "resume", number, *why)
    assert (done["status"], done["sent"], done["reason"]) == ("done", 4, "ticket 7")
    assert told(settings, "start", "--key", "k2", "--since", "1h", *why)["sent"] == 4
    seen = await replaying.read_replayed(settings)
    assert seen == [(key, version) for key in ("k1", "k2") for version in (1, 2, 3, 4)]
    assert told(settings, "show", number)["operator"] == settings.operator
    assert [each["status"] for each in told(settings, "list")] == ["done", "done"]
    shown = run(settings, "outbox", "replay", "list").stdout
    assert "ticket 7" in shown


async def test_what_cannot_be_meant_is_refused(settings: Settings, postgres: Connection) -> None:
    """O1: no selection, nothing selected, an unknown consumer, a replay that does not exist."""
    await replaying.publish_and_relay(settings, postgres, 5)
    why = ("--reason", "ticket 7")
    assert "--all" in refused(settings, "start", *why)
    assert "must select a message" in refused(settings, "start", "--key", "none", *why)
    assert "has read none" in refused(settings, "start", "--all", "--for", "qdrnt", *why)
    assert "must be a consumer" in refused(settings, "start", "--all", "--for", "A b", *why)
    assert "say why" in refused(settings, "start", "--all", "--reason", " ")
    assert "replay list" in refused(settings, "run", "77")
    assert "neither an ISO time" in refused(settings, "preview", "--since", "soon")
    assert told(settings, "list") == []


UPSERT = """
SELECT outbox.publish('catalog.item', 'c/' || n, 'catalog.item-upserted.v1',
                      jsonb_build_object('n', n))
FROM generate_series(1, 4) AS n, generate_series(1, 2) AS again
"""


def item(number: int) -> StreamKey:
    return StreamKey(ItemEvent.aggregate, f"c/{number}")


class Shows(MemoryProjection):
    """A store that holds what a test gives it."""

    def __init__(self, *entries: Entry) -> None:
        super().__init__([ItemEvent.aggregate], [ItemEvent.topic])
        self._shown = {entry.stream: entry for entry in entries}

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        return {s: self._shown[s] for s in streams if s in self._shown}


async def test_the_preview_tells_what_a_store_lacks_and_what_a_replay_mends(
    postgres: Connection,
) -> None:
    """O1: 1 is right, 2 is missing, 3 is stale, 4 has other content; 9 has no head."""
    await postgres.execute(UPSERT)
    rows = await postgres.execute("SELECT aggregateid, digest FROM outbox.streams")
    digests = dict(await rows.fetchall())
    right = Entry(item(1), 2, digests["c/1"], deleted=False)
    store = Shows(right, Entry(item(3), 1, "", False), Entry(item(4), 2, "other", False))
    whole = {item(n): 2 for n in (1, 2, 3, 4, 9)} | {StreamKey("other", "x"): 1}
    found = await find_difference(postgres, store, whole)
    assert (found.keys, found.missing, found.stale, found.different) == (4, 1, 1, 1)
    assert (found.mended, found.moved, found.left) == (2, 0, 1)
    assert found.some == ["c/2", "c/3", "c/4"]
    firsts = await find_difference(postgres, store, {item(2): 1, item(3): 1})
    assert (firsts.mended, firsts.moved, firsts.left) == (0, 1, 1)


async def test_the_preview_of_the_live_stores_sends_nothing(
    settings: Settings, postgres: Connection
) -> None:
    await postgres.execute(UPSERT)
    await relay_all(settings, postgres)
    before = len(await replaying.read_topic(settings, ItemEvent.topic))
    ran = run(settings, "consumers", "replay-preview", "--all", "--for", "neo4j", "--json")
    assert ran.returncode == 0, ran.stderr
    (found,) = json.loads(ran.stdout)
    assert (found["store"], found["keys"], found["missing"], found["mended"]) == ("neo4j", 4, 4, 4)
    assert len(await replaying.read_topic(settings, ItemEvent.topic)) == before
