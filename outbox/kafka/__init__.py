"""Publisher and Subscriber: the only package that knows aiokafka."""

from outbox.kafka.admin import cluster_id, create_topics, existing_topics, require_name
from outbox.kafka.cluster import (
    BrokerState,
    ClusterState,
    Configuration,
    TopicState,
    describe_cluster,
)
from outbox.kafka.consumer_record import ConsumerRecord, Partition
from outbox.kafka.lost_records import LostRecords, find_lost_records, skip_lost_records
from outbox.kafka.offsets import count_records, count_unread, has_committed
from outbox.kafka.publisher import (
    BATCH_BYTES,
    Batch,
    Delivery,
    Packed,
    Publisher,
    Record,
    RefusedBatch,
    RefusedRecord,
    SendOutcome,
    Stream,
    partition_of,
    read_stream,
)
from outbox.kafka.standing import Standing, read_standings
from outbox.kafka.subscriber import Subscriber
from outbox.kafka.tail import Tail

__all__ = [
    "BATCH_BYTES",
    "Batch",
    "BrokerState",
    "ClusterState",
    "Configuration",
    "ConsumerRecord",
    "Delivery",
    "LostRecords",
    "Packed",
    "Partition",
    "Publisher",
    "Record",
    "RefusedBatch",
    "RefusedRecord",
    "SendOutcome",
    "Standing",
    "Stream",
    "Subscriber",
    "Tail",
    "TopicState",
    "cluster_id",
    "count_records",
    "count_unread",
    "create_topics",
    "describe_cluster",
    "existing_topics",
    "find_lost_records",
    "has_committed",
    "partition_of",
    "read_standings",
    "read_stream",
    "require_name",
    "skip_lost_records",
]
