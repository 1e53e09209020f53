"""The end of a Kafka client is never mistaken for a cancellation of our own task."""

import asyncio
from contextlib import suppress

import pytest
from aiokafka.errors import KafkaConnectionError

from outbox.kafka import errors

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("error", [asyncio.CancelledError, KafkaConnectionError, OSError])
async def test_how_a_client_ends_does_not_matter(error: type[BaseException]) -> None:
    async def ending() -> None:
        raise error

    await errors.wait_until_client_ended(ending())


async def test_a_cancellation_from_before_is_not_taken_for_a_new_one() -> None:
    async def swallowed_once() -> None:
        async def ending() -> None:
            raise asyncio.CancelledError

        asyncio.current_task().cancel()  # type: ignore[union-attr] # we are in a task
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        await errors.wait_until_client_ended(ending())

    await asyncio.create_task(swallowed_once())


async def test_a_cancellation_that_a_client_keeps_for_itself_comes_all_the_same() -> None:
    async def ending() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await errors.wait_until_client_ended(ending())


async def test_a_deaf_one_is_left_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "STOP_TIMEOUT_SECONDS", 0.01)
    await errors.wait_until_client_ended(forever())


async def test_a_cancellation_of_ours_is_one() -> None:
    task = asyncio.create_task(errors.wait_until_client_ended(forever()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def forever() -> None:
    await asyncio.Event().wait()
