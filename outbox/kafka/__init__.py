"""Everything that talks to Kafka: the only package that imports aiokafka.

Start with `publisher` (records out, in acknowledged batches) and `subscriber` (records in, as a
member of a consumer group). `reader` and `tail` read without a group; `groups` answers how far a
group is; `admin` and `cluster` ask about topics and brokers. Every client made here reads only
committed records, commits nothing by itself and inflates a batch up to a limit only; network and
broker errors come out as `DependencyDown`. It knows nothing of PostgreSQL or of the outbox tables,
and it promises at-least-once delivery only: a batch that was given up may still arrive.
"""

from outbox.kafka.admin import cluster_id, create_topics, existing_topics, require_name
from outbox.kafka.cluster import (
    BrokerState,
    ClusterState,
    Configuration,
    TopicState,
    describe_cluster,
)
from outbox.kafka.consumer_record import ConsumerRecord, Partition
from outbox.kafka.groups.lost_records import LostRecords, find_lost_records, skip_lost_records
from outbox.kafka.groups.names import group_of
from outbox.kafka.groups.offsets import count_records, count_unread, has_committed
from outbox.kafka.groups.progress import GroupProgress, read_group_progress
from outbox.kafka.publisher import (
    BATCH_BYTES,
    Batch,
    Packed,
    Publisher,
    RefusedBatch,
    SendOutcome,
)
from outbox.kafka.records import Delivery, Record, RefusedRecord, Stream, read_stream
from outbox.kafka.subscriber import Subscriber
from outbox.kafka.tail import Tail
from outbox.kafka.topic_partitions import partition_of

__all__ = [
    "BATCH_BYTES",
    "Batch",
    "BrokerState",
    "ClusterState",
    "Configuration",
    "ConsumerRecord",
    "Delivery",
    "GroupProgress",
    "LostRecords",
    "Packed",
    "Partition",
    "Publisher",
    "Record",
    "RefusedBatch",
    "RefusedRecord",
    "SendOutcome",
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
    "group_of",
    "has_committed",
    "partition_of",
    "read_group_progress",
    "read_stream",
    "require_name",
    "skip_lost_records",
]
