"""FA2, FC1: none of our programs can read Kafka without the settings that Consumer fixes."""

import re
from pathlib import Path
from typing import Any

import pytest

from outbox.errors import DependencyDown
from outbox.kafka.consumer import Consumer

ROOT = Path(__file__).parents[4]
PACKAGES = ("outbox", "schemas", "services", "consumers", "web", "stack", "bench")
MADE = re.compile(r"AIOKafkaConsumer\(|\(AIOKafkaConsumer\)|confluent_kafka\.Consumer\(")


def test_only_one_module_makes_a_consumer() -> None:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    made = [file for file in files if MADE.search(file.read_text(encoding="utf-8"))]
    assert [str(file.relative_to(ROOT)) for file in made] == ["outbox/kafka/consumer.py"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "option", [{"isolation_level": "read_uncommitted"}, {"enable_auto_commit": True}]
)
async def test_what_it_fixes_cannot_be_chosen(option: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="multiple values"):
        Consumer(bootstrap_servers="127.0.0.1:1", **option)


@pytest.mark.anyio
async def test_a_topic_whose_partitions_are_not_known_is_not_an_empty_one() -> None:
    """Whoever waits until nothing is unread must not take a gap in the metadata for the end."""
    consumer = Consumer(bootstrap_servers="127.0.0.1:1")
    with pytest.raises(DependencyDown, match="says nothing of the partitions of orders"):
        consumer.list_partitions(["orders"])
    await consumer.stop()
