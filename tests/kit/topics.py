"""The topics of a real broker that all tests share: each test gets new, empty ones."""

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from outbox.kafka import create_topics
from schemas.registry import REGISTRY

PARTITIONS = 4  # as many as the mock broker gives a topic
WITHIN_SECONDS = 120.0
OF_TESTS = ("faults.thing.events", "test.note.events", "test.theirs", "test.ours")


def emptied(bootstrap: str) -> str:
    """Remove the topics and the idle groups of earlier tests; return the same address.

    A group whose member was killed a moment ago stays until its session ends; its offsets do not,
    because they go with their topics.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if old := topics(admin):
        all_done(admin.delete_topics(old).values())
        gone_by = time.monotonic() + WITHIN_SECONDS
        while topics(admin):
            assert time.monotonic() < gone_by, "topics of an earlier test are still there"
    groups = admin.list_consumer_groups().result(WITHIN_SECONDS).valid
    if groups:
        for deleted in admin.delete_consumer_groups([each.group_id for each in groups]).values():
            with suppress(KafkaException):
                deleted.result(WITHIN_SECONDS)
    asyncio.run(create_topics(bootstrap, [*REGISTRY.topics(), *OF_TESTS], PARTITIONS))
    return bootstrap


def topics(admin: AdminClient) -> list[str]:
    """Return the topics that are not the broker's own."""
    there = admin.list_topics(timeout=WITHIN_SECONDS).topics
    return [name for name in there if not name.startswith("__")]


def all_done(answers: Iterable[Future[None]]) -> None:
    for answer in answers:
        answer.result(WITHIN_SECONDS)
