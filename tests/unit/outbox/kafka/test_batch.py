"""RecordBatch: its bytes equal those of aiokafka's builder, and aiokafka's parser reads them."""

import time
from itertools import starmap

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import example, given
from hypothesis import strategies as st

from outbox.kafka import batch
from outbox.kafka.batch import RecordBatch, encode_headers
from schemas.wire import Headers

Content = tuple[bytes, bytes | None, Headers]

NOW = 1_764_072_000.25
LIMIT = 1 << 24
LENGTHS = st.sampled_from([0, 1, 63, 64, 8_191, 8_192, 70_000])
RAW = st.binary(max_size=80) | LENGTHS.map(bytes)
HEADERS = st.lists(st.tuples(st.text(min_size=1, max_size=40), RAW), max_size=12)
CONTENTS = st.lists(st.tuples(RAW, st.none() | RAW, HEADERS), min_size=1, max_size=20)


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "time", lambda: NOW)


def ours(contents: list[Content]) -> RecordBatch:
    made = RecordBatch(LIMIT)
    assert all(made.add(key, value, encode_headers(headers)) for key, value, headers in contents)
    return made


def theirs(contents: list[Content], producer: tuple[int, int, int]) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=producer[0],
        producer_epoch=producer[1], base_sequence=producer[2], batch_size=LIMIT,
    )  # fmt: skip
    for offset, (key, value, headers) in enumerate(contents):
        builder.append(offset, round(NOW * 1000), key, value, headers)
    return bytes(builder.build())


@given(
    CONTENTS, st.tuples(st.integers(-1, 2**62), st.integers(-1, 2**15 - 1), st.integers(0, 2**30))
)
@example([(b"k", b"v", [])] * 9_000, (1, 0, 0))  # offsets of two and of three bytes
def test_the_bytes_are_those_of_aiokafka(
    contents: list[Content], producer: tuple[int, int, int]
) -> None:
    made = ours(contents)
    made._set_producer_state(*producer)
    assert bytes(made._build()) == theirs(contents, producer)
    assert made.size() == len(made._build())
    assert made.record_count() == len(contents)


@given(CONTENTS)
def test_what_was_added_is_read_back(contents: list[Content]) -> None:
    parsed = DefaultRecordBatch(bytes(ours(contents)._build()))
    assert parsed.validate_crc()
    assert [(r.key, r.value, list(r.headers)) for r in parsed] == contents


def test_a_full_batch_takes_no_more_but_a_first_record_of_any_size() -> None:
    made = RecordBatch(1_000)
    taken = list(starmap(made.add, [(b"k", bytes(400), b"\0")] * 4))
    assert taken == [True, True, False, False]
    assert made.size() <= 1_000
    assert RecordBatch(1_000).add(b"k", bytes(5_000), b"\0")


def test_a_batch_is_built_once_however_often_it_is_sent() -> None:
    made = ours([(b"k", b"v", [])])
    assert made._build() is made._build()
    assert made.closed()


def test_the_time_is_that_of_the_batch() -> None:
    (record,) = DefaultRecordBatch(bytes(ours([(b"k", b"v", [])])._build()))
    assert record.timestamp == round(NOW * 1000)
    assert time.time() != NOW
