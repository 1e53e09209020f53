"""Comparison: puts the records of the topics beside the messages of PostgreSQL, in SQL.

Records are copied into temporary tables as they are read, and SQL compares them, so memory here
does not grow with the range. The id says which message a record belongs to: where a database was
reconciled, positions may have changed since a record was sent, but ids never do.
"""

from collections.abc import Mapping
from typing import Any

import psycopg

from outbox.audit.scope import AuditScope
from outbox.kafka import Partition
from outbox.kafka.reader import OffsetRange
from outbox.postgres.sql_file import read_statements
from schemas.extensions import RESERVED
from schemas.limits import ATTRIBUTE_BYTES, EXTENSION_NAME_CHARACTERS

Connection = psycopg.AsyncConnection[Any]

SQL = read_statements(__file__)
PREPARE = SQL["prepare"]
# Which headers are extensions, for both sides of the comparison alike.
EXTENSION_RULES = {
    "extension_name": f"^[a-z0-9]{{1,{EXTENSION_NAME_CHARACTERS}}}$",
    "reserved": sorted(RESERVED),
    "attribute_bytes": ATTRIBUTE_BYTES,
}


async def note_partitions(
    connection: Connection,
    scope: AuditScope,
    spans: Mapping[Partition, OffsetRange],
    held: Mapping[Partition, OffsetRange],
) -> None:
    """Store where each partition begins now, after it was read, and where reading began."""
    values = [
        [scope.topics[at[0]], at[1], held[at].first, span.first] for at, span in spans.items()
    ]
    if values:
        await connection.cursor().executemany(SQL["place"], values)


async def compare_records(connection: Connection, scope: AuditScope) -> dict[str, int]:
    """Fill the tables that findings are read from; return the number of messages in each state."""
    values = EXTENSION_RULES | {
        "lowest": scope.lowest, "highest": scope.highest, "cursor": scope.cursor,
        "upto": scope.upto, "passed": scope.passed, "committed": scope.committed,
    }  # fmt: skip
    await connection.execute(SQL["days"])
    await connection.execute(SQL["plans"])
    await connection.execute(SQL["fill"], values)
    row = await (await connection.execute(SQL["strays"])).fetchone()
    if row and row[0]:
        await connection.execute(SQL["recognise"], EXTENSION_RULES)
    await connection.execute(SQL["find_candidates"])
    await connection.execute(SQL["analyze"])
    return dict(await (await connection.execute(SQL["count"], values)).fetchall())
