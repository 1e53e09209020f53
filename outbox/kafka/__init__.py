"""Publisher and Subscriber: the only package that knows aiokafka."""

from outbox.kafka.admin import cluster_id, create_topics, existing_topics, require_name
from outbox.kafka.cluster import (
    BrokerState,
    ClusterState,
    Configuration,
    TopicState,
    describe_cluster,
)
from outbox.kafka.consumer_record import Partition, Received
from outbox.kafka.lost_records import Removed, removed, skip
from outbox.kafka.offsets import count_records, has_committed, lag
from outbox.kafka.publisher import (
    BATCH_BYTES,
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
from outbox.kafka.standing import Standing, standings
from outbox.kafka.subscriber import Subscriber
from outbox.kafka.tail import Tail

__all__ = [
    "BATCH_BYTES",
    "Batch",
    "BrokerState",
    "ClusterState",
    "Configuration",
    "Delivery",
    "Outcome",
    "Packed",
    "Partition",
    "Publisher",
    "Received",
    "Record",
    "Refused",
    "RefusedBatch",
    "Removed",
    "Standing",
    "Stream",
    "Subscriber",
    "Tail",
    "TopicState",
    "cluster_id",
    "count_records",
    "create_topics",
    "describe_cluster",
    "existing_topics",
    "has_committed",
    "lag",
    "partition_of",
    "removed",
    "require_name",
    "skip",
    "standings",
    "stream_of",
]
