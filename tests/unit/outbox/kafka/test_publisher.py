"""Publisher: no setting can weaken the guarantees that it asks of Kafka."""

from typing import Any, ClassVar

import pytest

from outbox.errors import DependencyDown
from outbox.kafka import publisher


class NoProducer:
    """A stand-in for the producer that records its arguments and cannot be started."""

    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **arguments: Any) -> None:
        self.made.append(arguments)
        raise OSError("not today")


@pytest.mark.anyio
async def test_every_record_is_acknowledged_by_all_replicas_in_sync_and_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R14: acks other than all is no setting of ours, so doctor need not look for it."""
    monkeypatch.setattr(NoProducer, "made", [])
    monkeypatch.setattr(publisher, "AIOKafkaProducer", NoProducer)
    with pytest.raises(DependencyDown):
        async with publisher.Publisher("127.0.0.1:1", 1.0):
            pass
    (arguments,) = NoProducer.made
    assert arguments["acks"] == "all"
    assert arguments["enable_idempotence"] is True
