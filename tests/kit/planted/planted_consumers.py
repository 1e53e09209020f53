"""Bugs planted into the real consumer, in this process, to prove that the harness sees them."""

import asyncio
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import RecordTooLargeError

from consumers.dead_letters.store import DeadLetter, DeadLetters
from consumers.runner.in_flight_offsets import InFlightOffsets
from outbox.errors import AlreadyHandled, DependencyDown
from outbox.kafka import Subscriber, subscriber
from outbox.kafka.consumer import Consumer
from outbox.write import database
from outbox.write.publishing import Published
from outbox.write.unit_of_work import READ_RECEIPT, TAKE_RECEIPT, UnitOfWork, driver_connection
from schemas.envelope import Envelope, Event
from tests.kit.planted.plant import plant


def committed_before_the_effect() -> AbstractContextManager[None]:
    """M03: the offset of a message may be committed once it was received."""
    return plant(InFlightOffsets, "lowest", property(lambda unfinished: unfinished._next))


def auto_commit() -> AbstractContextManager[None]:
    """M04: the client commits by itself the offsets that it has read."""

    class Automatic(Consumer):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._enable_auto_commit, self._auto_commit_interval_ms = True, 50

    return plant(subscriber, "Consumer", Automatic)


class LateReceipt(UnitOfWork):
    """M12: it looks for the receipt first, and writes it after the commit, without the guard."""

    async def _take_receipt(self, cause: Envelope) -> None:
        driver = await driver_connection(self.connection)
        if await (await driver.execute(READ_RECEIPT, [self._consumer, cause.id])).fetchone():
            raise AlreadyHandled(cause.id, None)

    async def commit(self, reply: Event | None = None) -> list[Published]:
        done = await super().commit(reply)
        assert self._cause is not None
        self._transaction.release()
        driver = await driver_connection(self.connection)
        await driver.execute(TAKE_RECEIPT, [self._consumer, self._cause.id, ""])
        await self.connection.commit()
        return done


def receipt_after_the_effect() -> AbstractContextManager[None]:
    """Plant M12 for the length of the block."""
    return plant(database, "UnitOfWork", LateReceipt)


def letters_without_wait() -> AbstractContextManager[None]:
    """M13: the offset is committed while the dead letter is still being written."""
    write = DeadLetters.write
    on_their_way: set[asyncio.Task[None]] = set()

    async def send(letters: DeadLetters, letter: DeadLetter) -> None:
        with suppress(DependencyDown):
            await write(letters, letter)

    async def write_later(letters: DeadLetters, letter: DeadLetter) -> None:
        on_their_way.add(asyncio.create_task(send(letters, letter)))

    return plant(DeadLetters, "write", write_later)


def too_large_is_swallowed() -> AbstractContextManager[None]:
    """M18: aiokafka steps over a record that is too large, and its error is swallowed."""
    receive = Subscriber._receive

    async def swallowing(
        self: Subscriber, partitions: Iterable[TopicPartition], records: int, milliseconds: int
    ) -> Any:
        try:
            return await receive(self, partitions, records, milliseconds)
        except RecordTooLargeError:
            return {}

    return plant(Subscriber, "_receive", swallowing)
