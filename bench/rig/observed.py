"""A relay that notes when the broker acknowledged each position: `python -m bench.rig.observed`.

On SIGTERM it writes them as JSON to its standard output. Times are of the machine's monotonic
clock, which all processes share. The note is taken in the producer's own callback.
"""

from time import monotonic

import outbox.relay.sender
from outbox.kafka import Batch, Delivery, Publisher
from outbox.relay.relay import Relay
from outbox.runtime.lifecycle import run_role
from outbox.runtime.output import say_json
from outbox.settings import Settings

ACKNOWLEDGED: dict[int, float] = {}


class ObservedPublisher(Publisher):
    """Publisher, with a note of each acknowledgement."""

    async def _send(self, batch: Batch) -> Delivery:
        delivery = await super()._send(batch)
        now = monotonic()
        ACKNOWLEDGED.update((record.position, now) for record in batch.records)
        return delivery


if __name__ == "__main__":
    vars(outbox.relay.sender)["Publisher"] = ObservedPublisher  # where the carrier looks
    settings = Settings()
    relay = Relay(settings)
    run_role(settings, relay.run, relay.stop)
    say_json(ACKNOWLEDGED)
