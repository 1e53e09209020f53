"""Audit: PostgreSQL, the recorded deliveries and the topics, compared message by message.

First, PostgreSQL says at one moment what is committed and what the relay has passed (`scope`).
Then the topics are read to the ends that they have after that moment, so all that was published by
then is there. At last both are compared (`comparison`, `missing`, `findings`) with what PostgreSQL
has by then, so that messages committed meanwhile account for their records. Writers and the relay
go on. Nothing is written but temporary tables; that needs a server that takes writes, no standby.

Only topics that messages of the range name are read. Everything in them must be the relay's own, so
the records of another program there are reported as foreign. Topics of commands are not read,
unless the outbox publishes to them. A record without a position belongs to the range if its
neighbours in the partition do.

Weaknesses: order is judged only among the messages of the range. The comparison takes some 10 µs a
message and holds its snapshot meanwhile, like any long read. Where Debezium published, there are
no deliveries, so its records are reported as misrecorded. Memory is bounded here and in PostgreSQL;
the temporary tables take some 300 bytes of PostgreSQL's disk a record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from outbox.audit import comparison, missing
from outbox.audit.findings import AuditFinding, FindingKind, count_dropped_records, read_findings
from outbox.audit.scope import AuditScope, Range, read_scope
from outbox.audit.topic_scan import COPY, TopicScan
from outbox.kafka import Partition
from outbox.kafka.reader import OffsetRange, Reader
from outbox.runtime.progress import OnProgress, ignore_progress
from outbox.settings import Settings

LIMIT = 20


@dataclass(frozen=True, slots=True)
class AuditCounts:
    """Numbers of messages, then of records.

    Each committed message is counted in exactly one of `published`, `pending`, `parked` and
    `discarded`. Of the published ones, `in_topics` are there, `expired` went when their partition's
    beginning was removed, and `lost` are neither. `read` counts records, of which `outside` belong
    to other ranges and `not_kept` to daily partitions that PostgreSQL has dropped.
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
    """The positions that were audited, the counts, and at most `limit` findings of each kind."""

    from_position: int
    to_position: int
    counts: AuditCounts
    findings: list[AuditFinding]

    @property
    def right(self) -> bool:
        """Whether nothing was found but faithful copies, which a crash may leave."""
        harmful = (kind for kind in FindingKind if kind is not FindingKind.DOUBLED)
        return not any(getattr(self.counts, kind) for kind in harmful)


async def audit(
    connection: psycopg.AsyncConnection[Any],
    settings: Settings,
    asked: Range | None = None,
    limit: int = LIMIT,
    on_progress: OnProgress = ignore_progress,
) -> Audit:
    """Audit the range `asked`, or all messages that PostgreSQL still has.

    `connection` is in autocommit; close it afterwards, since its session is left with settings and
    temporary tables. InvalidInput where the range is invalid; Halted where the relay would halt,
    because its cursor means nothing in this database; DependencyDown where PostgreSQL or Kafka does
    not answer; Unreadable where a batch in a topic cannot be read.
    """
    scope = await read_scope(connection, asked or Range())
    await connection.execute(comparison.PREPARE + missing.PREPARE)
    scan = await _scan_topics(connection, settings, scope, on_progress)
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return await _compare(connection, scope, scan, limit)


async def _scan_topics(
    connection: psycopg.AsyncConnection[Any],
    settings: Settings,
    scope: AuditScope,
    on_progress: OnProgress,
) -> TopicScan:
    """Copy the topics' records into PostgreSQL, and note where partitions begin afterwards."""
    scan = TopicScan(scope)
    async with Reader(
        settings.kafka_url,
        scope.topics,
        settings.read_timeout_seconds,
        settings.inflated_batch_bytes,
    ) as reader:
        spans = {at: scope.span(at, held) for at, held in (await reader.read_ranges()).items()}
        await _copy_records(connection, reader, spans, scan, on_progress)
        await comparison.note_partitions(connection, scope, spans, await reader.read_ranges())
    return scan


async def _copy_records(
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


async def _compare(
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
