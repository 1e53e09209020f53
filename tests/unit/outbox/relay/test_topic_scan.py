"""Whatever another program put into a record, it becomes one line of plain fields, or none."""

import re
from collections import namedtuple

from hypothesis import given
from hypothesis import strategies as st

from outbox.audit.scope import AuditScope
from outbox.audit.topic_scan import TopicScan
from outbox.cursor.cut import HIGHEST
from outbox.kafka.reader import OffsetRange

AT = ("topic", 0)
Sent = namedtuple("Sent", "offset key value headers")
NAMES = ("ce_id", "ce_type", "ce_time", "ce_sequence", "position", "term", "ce_other", "headers")
# What PostgreSQL certainly takes for these columns: digits, hexadecimal, or nothing.
NUMBER, HEX = r"(?:\d{1,20}|\\N)", r"\\\\x[0-9a-f]*"
LINE = re.compile(
    rf"1\t0\t\d+\t{NUMBER}\t(?:[0-9a-fA-F-]{{36}}|\\N)\t(?:{HEX}|\\N)\t{NUMBER}\t{NUMBER}"
    rf"\t(?:\d{{4}}-\d\d-\d\d|\\N)\t{HEX}\t(?:{HEX}|\\N)\t[tf]\n",
    re.ASCII,
)

values = st.none() | st.binary(max_size=40) | st.from_regex(rb"[0-9]{15,22}", fullmatch=True)
headers = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=8)


def scan(
    lowest: int = 0,
    highest: int = HIGHEST,
    places: dict[tuple[str, int], OffsetRange] | None = None,
    *,
    open_: bool = True,
) -> TopicScan:
    return TopicScan(
        AuditScope(lowest, highest, open_, "", None, 0, "", None, {"topic": 1}, places or {})
    )


@given(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=20), headers)
def test_no_bytes_of_a_stranger_break_a_line(
    key: bytes | None, value: bytes | None, sent: list[tuple[str, bytes | None]]
) -> None:
    (line,) = scan().lines(AT, [Sent(7, key, value, sent)]).decode("ascii").splitlines(True)
    assert LINE.fullmatch(line), line
    fields = line.split("\t")
    for number in (fields[3], fields[6], fields[7]):
        assert number == "\\N" or int(number) <= HIGHEST


def positions(lines: bytes) -> list[tuple[str, str]]:
    fields = [line.split("\t") for line in lines.decode().splitlines()]
    return [(each[3], each[11]) for each in fields]


def at(offset: int, position: str) -> Sent:
    return Sent(offset, b"k", b"", [("position", position.encode())])


def test_a_record_behind_a_higher_position_of_its_partition_is_marked() -> None:
    """That holds from one fetch to the next, too, and for a copy of the same record."""
    scanned = scan()
    first = scanned.lines(AT, [at(0, "5"), at(1, "9")])
    second = scanned.lines(AT, [at(2, "9"), at(3, "7"), at(4, "10")])
    assert positions(first) == [("5", "f"), ("9", "f")]
    assert positions(second) == [("9", "t"), ("7", "t"), ("10", "f")]
    assert positions(scanned.lines(("topic", 1), [at(0, "1")])) == [("1", "f")]


def test_what_is_of_another_range_is_left_out_and_counted() -> None:
    scanned = scan(5, 9, {AT: OffsetRange(0, 3)}, open_=False)
    lines = scanned.lines(AT, [at(0, "4"), at(1, "5"), at(2, "x"), at(3, "x"), at(4, "10")])
    assert [position for position, _ in positions(lines)] == ["5", "\\N"]
    assert (scanned.read, scanned.outside) == (5, 3)
