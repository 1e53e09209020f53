"""How fast does the relay drain into Apache Kafka itself, compared with a mere producer?

The ceiling is `raw_send_batch_kafka_per_s`: the same records, rendered beforehand, into the same
broker. Weakness: broker, PostgreSQL and relay share the machine's cores.
"""

from bench.drain import measure
from bench.rig.figure import Figure
from bench.rig.rig import Rig, fresh


async def ask(rig: Rig) -> list[Figure]:
    """Measure the drain into a real broker; there are no figures where none can run."""
    async with fresh(rig, real=True) as own:
        if own.kafka is None:
            return [Figure("relay_ratio_to_kafka", None, "", own.why_no_kafka)]
        rates = await measure(own, rig.effort.kafka_messages)
    ratio = rates.relay / rates.send
    return [
        Figure("relay_drain_kafka_per_s", rates.relay, "1/s"),
        Figure("raw_send_batch_kafka_per_s", rates.send, "1/s"),
        Figure("relay_ratio_to_kafka", ratio, "", "at least 0.7 of raw send_batch"),
    ]
