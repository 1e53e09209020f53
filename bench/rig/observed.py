"""A relay that notes when the broker acknowledged each position: `python -m bench.rig.observed`.

On SIGTERM it writes its notes as JSON to its standard output. The times are those of the machine's
monotonic clock, which all processes share. A note is taken when the send of its batch returns.
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
    """A Publisher that notes each acknowledgement."""

    async def _send(self, batch: Batch) -> Delivery:
        delivery = await super()._send(batch)
        now = monotonic()
        ACKNOWLEDGED.update((record.position, now) for record in batch.records)
        return delivery


if __name__ == "__main__":
    vars(outbox.relay.sender)["Publisher"] = ObservedPublisher  # the relay's sender finds it there
    settings = Settings()
    relay = Relay(settings)
    run_role(settings, relay.run, relay.stop)
    say_json(ACKNOWLEDGED)
