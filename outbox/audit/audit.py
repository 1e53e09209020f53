"""Audit: PostgreSQL, the recorded deliveries and the topics, compared message by message.

First PostgreSQL tells, at one moment, what is committed and what the relay has passed (`scene`).
Then the topics are read, to the ends that they have after that moment, so all that was published
by then is there. At last both are compared (`evidence`, `missing`, `findings`) with what PostgreSQL
has by then: what was committed meanwhile accounts for its records. Writers and the relay go on, and
nothing is written but temporary tables, so it runs where writes are taken, not on a standby.

Only topics that messages of the range name are read. In those everything must be the relay's own,
so a program that writes to one of them is reported as foreign; topics of commands are not read,
unless the outbox publishes to them. A record of no position belongs to the range where its
neighbours in the partition do.

Weaknesses: order is judged among the messages of the range. While the comparison runs, some 10 µs
a message, it holds its snapshot, as any long read does. Where Debezium published, there are no
deliveries, so its records are reported as misrecorded. Memory is bounded here and in PostgreSQL;
the tables take some 300 bytes a record of its disk.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from outbox.audit import comparison, missing
from outbox.audit.findings import AuditFinding, FindingKind, count_dropped_records, read_findings
from outbox.audit.scope import AuditScope, Range, read_scope
from outbox.audit.topic_scan import COPY, TopicScan
from outbox.kafka import Partition
from outbox.kafka.reader import OffsetRange, Reader
from outbox.settings import Settings

LIMIT = 20

OnProgress = Callable[[int, int], None]  # how many records were read, and of how many


@dataclass(frozen=True, slots=True)
class AuditCounts:
    """Messages, then records. What is committed is in exactly one place (I12).

    `in_topics` are published and there; `expired` are published, and gone with the beginning of
    their partition. `read` counts records, of which `outside` are of other ranges, and `not_kept`
    of days that PostgreSQL has dropped.
    """

    committed: int
    published: int
    pending: int
    parked: int
    discarded: int
    in_topics: int
    expired: int
    lost: int
    doubled: int
    altered: int
    reordered: int
    foreign: int
    misrecorded: int
    read: int
    outside: int
    not_kept: int


@dataclass(frozen=True, slots=True)
class Audit:
    """The positions that were audited, the counts, and at most so many findings of each kind."""

    from_position: int
    to_position: int
    counts: AuditCounts
    findings: list[AuditFinding]

    @property
    def right(self) -> bool:
        """Nothing was found but faithful copies, which a crash may leave (I2-I5)."""
        harmful = (kind for kind in FindingKind if kind is not FindingKind.DOUBLED)
        return not any(getattr(self.counts, kind) for kind in harmful)


async def audit(
    connection: psycopg.AsyncConnection[Any],
    settings: Settings,
    asked: Range | None = None,
    limit: int = LIMIT,
    on_progress: OnProgress = lambda _read, _of: None,
) -> Audit:
    """Compare; `connection` is in autocommit, and its session is spent afterwards.

    MessageRejected where the range is none; Halted where the relay would halt, because its cursor
    means nothing here; DependencyDown where one of the two does not answer.
    """
    scope = await read_scope(connection, asked or Range())
    await connection.execute(comparison.PREPARE + missing.PREPARE)
    scan = await _gather(connection, settings, scope, on_progress)
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return await _judge(connection, scope, scan, limit)


async def _gather(
    connection: psycopg.AsyncConnection[Any],
    settings: Settings,
    scope: AuditScope,
    on_progress: OnProgress,
) -> TopicScan:
    """Read what the topics hold, and note where they begin afterwards."""
    scan = TopicScan(scope)
    async with Reader(
        settings.kafka_url,
        scope.topics,
        settings.read_timeout_seconds,
        settings.inflated_batch_bytes,
    ) as reader:
        spans = {at: scope.span(at, held) for at, held in (await reader.read_ranges()).items()}
        await _copy(connection, reader, spans, scan, on_progress)
        await comparison.note_partitions(connection, scope, spans, await reader.read_ranges())
    return scan


async def _copy(
    connection: psycopg.AsyncConnection[Any],
    reader: Reader,
    spans: Mapping[Partition, OffsetRange],
    scan: TopicScan,
    on_progress: OnProgress,
) -> None:
    whole = sum(span.end - span.first for span in spans.values())
    async with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        async for at, some in reader.read(spans):
            await copy.write(scan.lines(at, some))
            on_progress(scan.read, whole)


async def _judge(
    connection: psycopg.AsyncConnection[Any], scope: AuditScope, scan: TopicScan, limit: int
) -> Audit:
    states = await comparison.compare_records(connection, scope)
    lost, expired = await missing.judge_missing(connection, scope.deliveries_since)
    found, findings = await read_findings(connection, scope, limit)
    places = {name: states.get(name, 0) for name in ("published", "pending", "parked", "discarded")}
    counts = AuditCounts(
        committed=sum(places.values()),
        **places,
        in_topics=places["published"] - lost - expired,
        expired=expired,
        **found,
        read=scan.read,
        outside=scan.outside,
        not_kept=await count_dropped_records(connection),
    )
    return Audit(scope.lowest, scope.highest, counts, findings)
