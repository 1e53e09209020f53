"""Findings: reads everything that is not as it must be from the compared tables, with details.

lost         a message that the relay has passed is in no topic
doubled      a message is there more than once, each time unchanged; legal after a crash
altered      a record has a known id and other content, or a known version of a key and another id
reordered    a message first appears behind a higher version of its key, or in another partition
foreign      no committed message accounts for a record
misrecorded  a delivery is not what its offsets hold, or no delivery covers a record
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
from psycopg.rows import dict_row

from outbox.audit.scope import AuditScope
from outbox.postgres.sql_file import read_statements


class FindingKind(StrEnum):
    """The kinds of findings; the docstring of this module says what each means."""

    LOST = "lost"
    DOUBLED = "doubled"
    ALTERED = "altered"
    REORDERED = "reordered"
    FOREIGN = "foreign"
    MISRECORDED = "misrecorded"


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One difference and where it is; `offset` is None where there is no record.

    `why`, beside the kind, is one of: not-in-topic, copy, replay, other-topic, other-key,
    other-version, other-payload, other-extensions, other-id, after-a-higher-version,
    in-two-partitions, no-id, unknown-id, other-records, no-delivery. `details` hold the delivery,
    the place of the other record, or what was found instead.
    """

    kind: FindingKind
    why: str
    topic: str
    partition: int | None
    offset: int | None
    position: int | None
    key: str | None
    version: int | None
    id: str | None
    term: int | None
    details: dict[str, Any]


SQL = read_statements(__file__)
STATEMENTS = {
    FindingKind.LOST: (SQL["lost"],),
    FindingKind.DOUBLED: (SQL["doubled"],),
    FindingKind.ALTERED: (SQL["altered"], SQL["republished"]),
    FindingKind.REORDERED: (SQL["reordered"], SQL["two_partitions"]),
    FindingKind.FOREIGN: (SQL["foreign"],),
    FindingKind.MISRECORDED: (SQL["other_records"], SQL["no_delivery"]),
}


async def read_findings(
    connection: psycopg.AsyncConnection[Any], scope: AuditScope, limit: int
) -> tuple[dict[str, int], list[AuditFinding]]:
    """Return the number of findings of each kind, and at most `limit` of each kind.

    Those of one kind are in the order of their positions, or of topic, partition and offset.
    """
    values = {
        "limit": limit, "lowest": scope.lowest, "highest": scope.highest,
        "since": scope.deliveries_since,
    }  # fmt: skip
    counts = dict.fromkeys(map(str, FindingKind), 0)
    findings: list[AuditFinding] = []
    for kind, statements in STATEMENTS.items():
        found: list[AuditFinding] = []
        for statement in statements:
            total, some = await _read_statement(connection, kind, statement, values)
            counts[kind] += total
            found += some
        findings += found[:limit]
    return counts, findings


async def count_dropped_records(connection: psycopg.AsyncConnection[Any]) -> int:
    """Return how many records are of daily partitions that PostgreSQL has dropped."""
    row = await (await connection.execute(SQL["not_kept"])).fetchone()
    return int(row[0]) if row else 0


async def _read_statement(
    connection: psycopg.AsyncConnection[Any],
    kind: FindingKind,
    statement: bytes,
    values: dict[str, Any],
) -> tuple[int, list[AuditFinding]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, values)
        rows = await cursor.fetchall()
    total = rows[0]["total"] if rows else 0
    return total, [_build_finding(kind, row) for row in rows]


def _build_finding(kind: FindingKind, row: dict[str, Any]) -> AuditFinding:
    """Build a finding from a row; a key may be any bytes where another program sent the record."""
    key = row["key"]
    fields = {name: value for name, value in row.items() if name != "total"}
    shown = None if key is None else bytes(key).decode(errors="backslashreplace")
    return AuditFinding(kind, **(fields | {"key": shown}))
