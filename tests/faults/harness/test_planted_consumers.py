"""M03, M04, M12, M13 and M18, each caught beside the same test without it; C2, C10, C16."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import psycopg
import pytest
from pydantic import SecretStr

from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.errors import AlreadyHandled, build_rejection
from outbox.runtime.failpoints import ReachedError, arm
from outbox.write.database import Database
from tests.kit.consumers.notes import Notes, committed, send
from tests.kit.load.commander import Orders
from tests.kit.load.roles import running
from tests.kit.load.stream import event
from tests.kit.load.writer import TABLE
from tests.kit.operations.open_letters import list_dead_letters
from tests.kit.planted.planted_consumers import (
    auto_commit,
    committed_before_the_effect,
    letters_without_wait,
    receipt_after_the_effect,
    too_large_is_swallowed,
)
from tests.kit.proxies.broken_bytes import Larger
from tests.kit.proxies.kafka_proxy import KafkaProxy
from tests.kit.proxies.postgres_proxy import address_of, url_through
from tests.kit.proxies.proxy import Proxy
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60.0
TIME_FOR_THE_BUG_SECONDS = 3.0


async def left_by_one_that_dies_in_an_effect(settings: Settings) -> list[str]:
    """Return what the next consumer gets: a message that was received, and one that comes later."""
    dying = Notes()
    dying.held.clear()
    running_ = asyncio.create_task(Runner(settings, dying).run())
    await send(settings, event("key", 1))
    await until(dying.called, WITHIN_SECONDS)
    with suppress(TimeoutError):
        await until(lambda: committed(settings), TIME_FOR_THE_BUG_SECONDS)
    running_.cancel()
    await asyncio.wait([running_])
    assert dying.applied == []
    following = Notes()
    async with running(Runner(settings, following)):
        await send(settings, event("key", 2))
        await until(lambda: following.has("key@2"), WITHIN_SECONDS)
    return following.applied


async def test_what_a_dead_consumer_had_received_is_done_by_the_next(settings: Settings) -> None:
    """I9."""
    assert await left_by_one_that_dies_in_an_effect(settings) == ["key@1", "key@2"]


async def test_an_offset_that_is_committed_before_its_effect_is_caught_losing(
    settings: Settings,
) -> None:
    """M03, C2."""
    with committed_before_the_effect():
        assert await left_by_one_that_dies_in_an_effect(settings) == ["key@2"]


async def test_a_client_that_commits_by_itself_is_caught_losing(settings: Settings) -> None:
    """M04, C2."""
    with auto_commit():
        assert await left_by_one_that_dies_in_an_effect(settings) == ["key@2"]


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    arm("")


async def done_and_delivered_again(settings: Settings, postgres: psycopg.AsyncConnection) -> int:
    """Return how often a command is done whose consumer ends right after its COMMIT is answered."""
    await postgres.execute(TABLE.encode())
    async with Database(settings, "orders") as database:
        orders = Orders("orders", database)
        arm("write-5=raise")
        with pytest.raises(ReachedError):
            await orders.apply([event("key", 1)])
        arm("")
        with suppress(AlreadyHandled):
            await orders.apply([event("key", 1)])
    row = await (await postgres.execute("SELECT n FROM things")).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.usefixtures("disarmed")
async def test_a_command_that_comes_again_is_not_done_again(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """M4, I10."""
    assert await done_and_delivered_again(settings, postgres) == 1


@pytest.mark.usefixtures("disarmed")
async def test_a_receipt_that_is_written_after_the_effect_is_caught_doubling(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """M12."""
    with receipt_after_the_effect():
        assert await done_and_delivered_again(settings, postgres) == 2


@pytest.fixture
async def database_proxy(postgres_url: str) -> AsyncIterator[Proxy]:
    """Open a proxy in front of this test's database."""
    async with Proxy(address_of(postgres_url)) as proxy:
        yield proxy


async def committed_while_letters_cannot_be_written(settings: Settings, proxy: Proxy) -> bool:
    """Return what was committed of a broken message while no dead letter could be written.

    Afterwards PostgreSQL is back, and the consumer was killed.
    """
    url = url_through(proxy, settings.libpq_url())
    update = {"postgres_url": SecretStr(url), "connect_timeout_seconds": 2}
    notes = Notes()
    notes.fails = lambda _: build_rejection("schema", "name", "must be text")
    dying = asyncio.create_task(Runner(settings.model_copy(update=update), notes).run())
    await send(settings, event("fine", 1))
    await until(lambda: committed(settings), WITHIN_SECONDS)
    await proxy.down()
    await send(settings, event("bad", 1))
    with suppress(TimeoutError):
        await until(lambda: committed(settings), TIME_FOR_THE_BUG_SECONDS)
    dying.cancel()
    await asyncio.wait([dying])
    return await committed(settings)


async def test_while_a_dead_letter_cannot_be_written_nothing_is_committed(
    settings: Settings, database_proxy: Proxy
) -> None:
    """C10, I12: and once it can be written, it is."""
    assert not await committed_while_letters_cannot_be_written(settings, database_proxy)
    notes = Notes()
    notes.fails = lambda _: build_rejection("schema", "name", "must be text")
    async with running(Runner(settings, notes)):
        await until(lambda: committed(settings), WITHIN_SECONDS)
    assert len(await list_dead_letters(settings, 10)) == 2


async def test_a_dead_letter_that_nobody_waits_for_is_caught_lost(
    settings: Settings, database_proxy: Proxy
) -> None:
    """M13."""
    with letters_without_wait():
        assert await committed_while_letters_cannot_be_written(settings, database_proxy)
    assert len(await list_dead_letters(settings, 10)) == 1


async def given_past_one_that_is_too_large(settings: Settings, proxy: KafkaProxy) -> list[str]:
    """Return what a consumer gets if one record once does not fit into a fetch."""
    proxy.add_rule(rule := Larger(marker=b"key@2", most=1))
    notes = Notes()
    async with running(Runner(settings.model_copy(update={"kafka_url": proxy.address}), notes)):
        await send(settings, event("key", 1))
        await until(lambda: notes.has("key@1"), WITHIN_SECONDS)
        # The next one comes first in its answer; behind another it would only not be read yet.
        await send(settings, *(event("key", version) for version in range(2, 5)))
        await until(lambda: notes.has("key@4"), WITHIN_SECONDS)
    assert rule.happened.is_set()
    return notes.applied


async def test_a_record_that_did_not_fit_once_is_not_passed_over(
    settings: Settings, proxy: KafkaProxy
) -> None:
    """C16."""
    every = [f"key@{version}" for version in range(1, 5)]
    assert await given_past_one_that_is_too_large(settings, proxy) == every


async def test_a_record_whose_size_is_swallowed_is_caught_lost(
    settings: Settings, proxy: KafkaProxy
) -> None:
    """M18, C16."""
    with too_large_is_swallowed():
        assert "key@2" not in await given_past_one_that_is_too_large(settings, proxy)
