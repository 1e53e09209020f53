"""Runner: a broken event parks its key only, an outage spends no attempt (D6, I9, I12, C9-C12)."""

import asyncio
from collections.abc import Sequence

import psycopg
import pytest

from consumers.dead_letters.store import decode_headers
from consumers.projections.projection import Change, ProjectionReaction
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.errors import StoreUnfit
from outbox.kafka import count_unread
from tests.kit.consumers.item_store import TOPIC, Store, event
from tests.kit.load.roles import running, send_records
from tests.kit.operations.open_letters import list_dead_letters
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio


def runner_of(settings: Settings, store: Store) -> Runner:
    quick = settings.model_copy(
        update={
            "backoff_first_seconds": 0.01,
            "backoff_longest_seconds": 0.05,
            "unexpected_error_attempts": 3,
        }
    )
    return Runner(quick, ProjectionReaction(store))


async def done(settings: Settings, store: Store) -> bool:
    return await count_unread(settings.kafka_url, f"aftercommit.{store.name}", [TOPIC]) == 0


async def test_a_broken_event_becomes_a_dead_letter_with_its_bytes_and_parks_only_its_key(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    store = Store()
    broken = event("bad", 2, payload=b'{"catalog_id":"c","item_id":"bad"}')
    records = [event("bad", 1), event("good", 1), broken, event("good", 2), event("bad", 3)]
    runner = runner_of(settings, store)
    async with running(runner):
        await send_records(settings, records)
        await until(lambda: done(settings, store), 30)
    assert await store.version("good") == 2
    assert await store.version("bad") == 1, "a later event of a parked key must wait"
    dead, waiting = await list_dead_letters(settings, 10)
    assert (dead["status"], dead["reason"]) == ("dead", "schema")
    assert "name: " in dead["error"]
    assert "text: " in dead["error"]
    assert (waiting["status"], waiting["stream"]) == ("waiting", dead["stream"])
    rows = await postgres.execute("SELECT key, value, headers FROM outbox.dead_letters ORDER BY id")
    stored = await rows.fetchone()
    assert stored is not None
    assert stored[:2] == (broken.key, broken.value)
    assert decode_headers(stored[2]) == tuple(broken.headers)
    assert (runner.counts.applied, runner.counts.dead_letters, runner.counts.waiting) == (3, 1, 1)


async def test_a_parked_key_stays_parked_after_a_restart(settings: Settings) -> None:
    store = Store()
    async with running(runner_of(settings, store)):
        await send_records(settings, [event("bad", 1, payload=b"{}")])
        await until(lambda: done(settings, store), 30)
    async with running(runner_of(settings, store)):
        await send_records(settings, [event("bad", 2), event("good", 1)])
        await until(lambda: done(settings, store), 30)
    assert await store.version("bad") == 0
    assert await store.version("good") == 1
    assert [letter["status"] for letter in await list_dead_letters(settings, 10)] == [
        "dead",
        "waiting",
    ]


async def test_an_outage_is_waited_out_and_makes_no_dead_letter(settings: Settings) -> None:
    store = Store()
    store.outages = 20  # far more than the attempts after an unexpected error
    async with running(runner_of(settings, store)):
        await send_records(settings, [event("a", 1)])
        await until(lambda: done(settings, store), 60)
    assert await store.version("a") == 1
    assert await list_dead_letters(settings, 10) == []


async def test_a_surprise_gets_bounded_attempts_and_then_succeeds(settings: Settings) -> None:
    store = Store()
    store.unexpected_errors = (
        2  # the batch and one single attempt, or two attempts at the first to come
    )
    async with running(runner_of(settings, store)):
        await send_records(settings, [event("odd", 1), event("even", 1)])
        await until(lambda: done(settings, store), 30)
    assert (await store.version("odd"), await store.version("even")) == (1, 1)
    assert await list_dead_letters(settings, 10) == []


async def test_a_surprise_that_stays_becomes_a_dead_letter(settings: Settings) -> None:
    store = Store()
    store.unexpected_errors = 1_000
    async with running(runner_of(settings, store)):
        await send_records(settings, [event("odd", 1), event("even", 1)])
        await until(lambda: done(settings, store), 30)
    assert await store.version("even") == 1
    (letter,) = await list_dead_letters(settings, 10)
    assert (letter["reason"], letter["attempts"]) == ("ZeroDivisionError", 3)


async def test_the_offset_is_not_committed_before_the_effect(settings: Settings) -> None:
    """I9: while the store is away nothing is committed; after a stop the next runner does it."""
    store = Store()
    store.outages = 1_000_000
    runner = runner_of(settings, store)
    async with running(runner):
        await send_records(settings, [event("a", 1)])
        await until(lambda: _called(store), 30)
    group = f"aftercommit.{store.name}"
    assert await count_unread(settings.kafka_url, group, [TOPIC]) == 1
    store.outages = 0
    async with running(runner_of(settings, store)):
        await until(lambda: done(settings, store), 30)
    assert await store.version("a") == 1


async def _called(store: Store) -> bool:
    return store.calls > 2


class NotOurs(Store):
    """A store that was created again, in another shape, while the consumer was running."""

    async def apply(self, changes: Sequence[Change]) -> None:
        raise StoreUnfit(f"planted: no place for {len(changes)}")


async def test_what_only_a_person_can_repair_stops_the_consumer_and_buries_nothing(
    settings: Settings,
) -> None:
    store = NotOurs()
    await send_records(settings, [event("a", 1), event("b", 1)])
    async with asyncio.timeout(60):
        with pytest.raises(StoreUnfit, match="planted"):
            await runner_of(settings, store).run()
    assert await list_dead_letters(settings, 10) == []
    assert not await done(settings, store)
