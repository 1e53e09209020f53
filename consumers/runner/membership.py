"""Membership: one stay in a consumer group, from joining to leaving.

Each turn receives records, hands them and redelivered dead letters to the assignment, and commits
what is finished. At a rebalance the assignment ends, what it has finished is committed, and a new
one begins.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from time import monotonic
from typing import Self

import structlog

from consumers.dead_letters.redelivery import Redelivery
from consumers.runner.applier import Applier
from consumers.runner.assignment import Assignment, Bounds
from consumers.runner.failures import RetryBackoff, retry_through_outages
from consumers.runner.reaction import Reaction
from consumers.settings import Settings
from outbox.errors import Contention, DependencyDown, Unreadable
from outbox.kafka import Partition, Subscriber, group_of
from outbox.runtime.failpoints import Failpoint, failpoint

log = structlog.get_logger()


class Membership:
    """A context manager: entering joins the group, leaving gives the partitions back.

    Inside it, `turn` is called again and again. If it is left by an error, it commits what it can;
    if it is left by a cancellation, it commits nothing.
    """

    def __init__(
        self,
        settings: Settings,
        reaction: Reaction,
        applier: Applier,
        redelivery: Redelivery,
        stopping: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._applier = applier
        self._redelivery = redelivery
        self._stopping = stopping
        self._backoff = RetryBackoff(
            settings.backoff_first_seconds, settings.backoff_longest_seconds
        )
        self._bounds = _read_bounds(settings, reaction)
        self._revoke_seconds = settings.rebalance_timeout_milliseconds / 1000 / 2
        self._stop_seconds = settings.stop_timeout_seconds / 2  # the rest is for leaving
        self._log = log.bind(consumer=reaction.name)
        self._errors: list[BaseException] = []
        self._former: list[Assignment] = []
        self._next_poll_at = 0.0
        self._poll_seconds = settings.retry_poll_seconds
        self._subscriber = Subscriber(
            settings.kafka_url,
            group_of(reaction.name),
            reaction.topics,
            settings.session_timeout_milliseconds,
            settings.max_fetch_bytes,
            settings.rebalance_timeout_milliseconds,
            settings.fetch_wait_milliseconds,
            revoked=self._handle_revocation,
            assigned=self._handle_assignment,
            inflated_batch_bytes=settings.inflated_batch_bytes,
        )
        self._assignment = self._new_assignment()

    async def __aenter__(self) -> Self:
        await self._subscriber.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        within_seconds = self._revoke_seconds if kind else self._stop_seconds
        try:
            if kind is None or issubclass(kind, Exception):
                with suppress(DependencyDown):
                    await self._give_up_assignment(within_seconds)
        finally:
            await self._end()

    async def _end(self) -> None:
        try:
            await self._assignment.end(0)
            await asyncio.gather(
                *(each.wait_until_gone() for each in (*self._former, self._assignment))
            )
        finally:
            await self._subscriber.__aexit__()

    @property
    def in_flight_messages(self) -> int:
        """How many messages this member has received, and neither applied nor dead-lettered."""
        return self._assignment.in_flight_messages

    async def turn(self) -> None:
        """Receive, ask for due dead letters and commit, once each.

        Raises Halted, DependencyDown, and what no attempt at a message may raise.
        """
        if not self._assignment.knows_parked:
            await self._load_parked(self._assignment)
        await self._receive()
        await self._ask_for_redelivery()
        await self._commit()
        if self._errors:
            raise self._errors[0]

    async def _receive(self) -> None:
        settings = self._settings
        try:
            fetched = await self._subscriber.receive(
                settings.receive_messages, settings.receive_wait_milliseconds
            )
        except Unreadable as error:
            topic, partition = error.partition
            self._log.error(
                "partition stands still",
                topic=topic,
                partition=partition,
                offset=error.offset,
                error=str(error),
            )
            return
        if fetched:
            failpoint(Failpoint.RECORDS_RECEIVED)
            self._assignment.accept(fetched)

    async def _load_parked(self, assignment: Assignment) -> None:
        """Load the parked keys before its first message: former members may have parked some."""
        await retry_through_outages(self._applier.load_parked, self._backoff, self._stopping)
        assignment.knows_parked = True

    async def _ask_for_redelivery(self) -> None:
        """Ask for due dead letters at intervals, and at once when all of the last ones are settled.

        A question that fails is asked again at the next interval; nothing else waits for it.
        """
        assignment = self._assignment
        if not assignment.partitions or not (
            assignment.has_redelivered or monotonic() >= self._next_poll_at
        ):
            return
        self._next_poll_at = monotonic() + self._poll_seconds
        try:
            assignment.redeliver(await self._redelivery.due(assignment.partitions))
        except (DependencyDown, Contention) as error:
            self._log.warning("dead letters cannot be asked", error=str(error)[:300])

    async def _commit(self) -> None:
        assignment = self._assignment
        if offsets := assignment.committable():
            if await self._subscriber.commit(offsets):
                assignment.mark_committed(offsets)
            else:
                self._log.warning("commit refused: the group has gone on", offsets=len(offsets))

    async def _handle_revocation(self) -> None:
        """End the assignment; aiokafka calls this in its own task and keeps the session alive."""
        failpoint(Failpoint.REVOKING)
        with suppress(DependencyDown):
            await self._give_up_assignment(self._revoke_seconds)
        self._former = [assignment for assignment in self._former if not assignment.is_gone]
        self._former.append(self._assignment)
        self._assignment = self._new_assignment()

    async def _give_up_assignment(self, within_seconds: float) -> None:
        await self._assignment.end(within_seconds)
        await self._commit()

    def _handle_assignment(self, partitions: Collection[Partition]) -> None:
        self._assignment.assign(partitions)
        self._log.info("assigned", partitions=len(partitions))

    def _new_assignment(self) -> Assignment:
        return Assignment(
            self._applier,
            self._bounds,
            self._backoff,
            self._subscriber.pause,
            self._subscriber.resume,
            self._errors.append,
        )


def _read_bounds(settings: Settings, reaction: Reaction) -> Bounds:
    """Run large batches one after another: two of one process would collide in the store."""
    return Bounds(
        batch_messages=reaction.batch_messages,
        batches_side_by_side=settings.keys_side_by_side if reaction.batch_messages == 1 else 1,
        in_flight_messages=settings.in_flight_messages,
        in_flight_bytes=settings.in_flight_bytes,
    )
