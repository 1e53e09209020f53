"""What the fault tests share: a proxy before the broker, and a witness behind it."""

from collections.abc import AsyncIterator

import pytest

from consumers.settings import Settings
from tests.faults.kafka_proxy import KafkaProxy
from tests.faults.witness import Witness


@pytest.fixture
async def proxy(kafka_url: str) -> AsyncIterator[KafkaProxy]:
    """In front of this test's broker."""
    async with KafkaProxy(kafka_url) as proxy:
        yield proxy


@pytest.fixture
async def witness(settings: Settings) -> AsyncIterator[Witness]:
    """Reads this test's broker from the beginning, past the proxy."""
    async with Witness(settings) as witness:
        yield witness
