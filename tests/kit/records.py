"""Records as a reader of the topic gets them."""

from aiokafka.record.default_records import DefaultRecordBatch

from outbox.kafka import Record
from outbox.kafka.batch import RecordBatch
from schemas.wire import Headers


def headers_of(record: Record) -> Headers:
    """Return the headers of a record, as aiokafka's parser reads them from a batch."""
    assert isinstance(record.headers, bytes)
    batch = RecordBatch(1 << 20)
    batch.add(record.key, record.value, record.headers)
    (read,) = DefaultRecordBatch(bytes(batch._build()))
    return [(name, raw or b"") for name, raw in read.headers]
