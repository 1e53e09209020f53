"""Publisher and Subscriber: the only package that knows aiokafka."""

from outbox.kafka.offsets import count_records, lag
from outbox.kafka.publisher import (
    Batch,
    Delivery,
    Outcome,
    Packed,
    Publisher,
    Record,
    Refused,
    RefusedBatch,
    Stream,
    partition_of,
    stream_of,
)
from outbox.kafka.subscriber import Partition, Received, Subscriber
from outbox.kafka.topics import cluster_id, create_topics

__all__ = [
    "Batch",
    "Delivery",
    "Outcome",
    "Packed",
    "Partition",
    "Publisher",
    "Received",
    "Record",
    "Refused",
    "RefusedBatch",
    "Stream",
    "Subscriber",
    "cluster_id",
    "count_records",
    "create_topics",
    "lag",
    "partition_of",
    "stream_of",
]
