"""Own rows: compares the service's tables with the stream heads and the latest events.

Every change of a row is committed together with its event, so a row and its key's head always
agree. Where they do not, somebody has changed one of them alone: deleted, inserted or altered a row
by hand, or restored it from elsewhere. A difference is one of three kinds:

- missing: the head is live, and there is no row;
- orphaned: there is a row, but no head, or a head that says that the key is deleted;
- different: the row is not what the latest event says, attribute by attribute, types included; or
  that event is in no table any more, so that nobody can tell.

Each key is judged within one statement, and so within one snapshot: a write that commits meanwhile
is never taken for a difference. Rows are read a page at a time, so memory is bounded, no snapshot
gets old, and no statement takes long.

Weakness: a key that is deleted and created anew during the comparison may be looked at twice or
never. What is wrong before the beginning and stays wrong is found.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, LiteralString, NamedTuple

import psycopg

from outbox.postgres.transactions import planned_transaction
from outbox.streams.difference import DifferenceKind
from outbox.streams.heads import StreamKey
from outbox.streams.own_rows import RowDifference
from schemas.catalog import CatalogCreated, ItemEvent

PAGE_ROWS = 2_000

Connection = psycopg.AsyncConnection[Any]
Around = Callable[[Connection], AbstractAsyncContextManager[object]]

# For a transaction that has one snapshot; it must run before the snapshot is taken. A daily
# partition that is dropped is gone from every snapshot, while the rows that were saved from it are
# in no older snapshot. This lock keeps daily partitions from being dropped until the transaction
# ends; a pruner gives up soon and tries again later.
KEEP_DAYS: LiteralString = "LOCK TABLE outbox.messages IN ACCESS SHARE MODE"


class Table(NamedTuple):
    """The statements about one table; each reads the page of `limit` rows behind `after`.

    `rows` returns a row's place, its key, and how it differs (null where it does not). `absent`
    returns the live heads behind a key, and whether each one has its row.
    """

    aggregate: str
    rows: LiteralString
    absent: LiteralString


# jsonb compares numbers by their exact value: 1 and 1.0 are one number, as they are in Python; true
# and 1 are not, and neither are two neighbouring floats. `readable` is false for a payload that
# jsonb cannot hold: no row can be what such a payload says.
# The page is cut before it is joined, so that each of its rows is looked up by its key's index.
ITEM_ROWS: LiteralString = """
WITH page AS MATERIALIZED (
    SELECT catalog_id, item_id, catalog_id || '/' || item_id AS key, name, text, attributes
    FROM catalog.items
    WHERE (catalog_id, item_id) > ((%(after)s::text[])[1], (%(after)s::text[])[2])
      AND (%(catalog)s::text IS NULL OR catalog_id = %(catalog)s)
    ORDER BY catalog_id, item_id LIMIT %(limit)s
)
SELECT ARRAY[page.catalog_id, page.item_id], page.key,
       CASE WHEN latest.aggregateid IS NULL OR latest.deleted THEN 'orphaned'
            WHEN NOT %(readable)s::boolean THEN 'different'
            WHEN latest.payload::jsonb IS DISTINCT FROM jsonb_build_object(
                     'catalog_id', page.catalog_id, 'item_id', page.item_id, 'name', page.name,
                     'text', page.text, 'attributes', page.attributes) THEN 'different' END
FROM page LEFT JOIN outbox.latest AS latest
  ON latest.aggregatetype = %(aggregate)s AND latest.aggregateid = page.key
ORDER BY page.catalog_id, page.item_id
"""
# A catalog's keys are one range: "0" is the character after the slash.
ITEM_ABSENT: LiteralString = """
WITH page AS MATERIALIZED (
    SELECT aggregateid AS key FROM outbox.streams
    WHERE aggregatetype = %(aggregate)s AND aggregateid > %(after)s AND NOT deleted
      AND (%(catalog)s::text IS NULL
           OR (aggregateid >= %(catalog)s || '/' AND aggregateid < %(catalog)s || '0'))
    ORDER BY aggregateid LIMIT %(limit)s
)
SELECT page.key, EXISTS (
    SELECT FROM catalog.items WHERE catalog_id = split_part(page.key, '/', 1)
                                AND item_id = split_part(page.key, '/', 2))
FROM page ORDER BY page.key
"""
CATALOG_ROWS: LiteralString = """
WITH page AS MATERIALIZED (
    SELECT catalog_id, name FROM catalog.catalogs
    WHERE catalog_id > (%(after)s::text[])[1]
      AND (%(catalog)s::text IS NULL OR catalog_id = %(catalog)s)
    ORDER BY catalog_id LIMIT %(limit)s
)
SELECT ARRAY[page.catalog_id], page.catalog_id,
       CASE WHEN latest.aggregateid IS NULL OR latest.deleted THEN 'orphaned'
            WHEN NOT %(readable)s::boolean THEN 'different'
            WHEN latest.payload::jsonb IS DISTINCT FROM jsonb_build_object(
                     'catalog_id', page.catalog_id, 'name', page.name) THEN 'different' END
FROM page LEFT JOIN outbox.latest AS latest
  ON latest.aggregatetype = %(aggregate)s AND latest.aggregateid = page.catalog_id
ORDER BY page.catalog_id
"""
CATALOG_ABSENT: LiteralString = """
WITH page AS MATERIALIZED (
    SELECT aggregateid AS key FROM outbox.streams
    WHERE aggregatetype = %(aggregate)s AND aggregateid > %(after)s AND NOT deleted
      AND (%(catalog)s::text IS NULL OR aggregateid = %(catalog)s)
    ORDER BY aggregateid LIMIT %(limit)s
)
SELECT page.key, EXISTS (SELECT FROM catalog.catalogs WHERE catalog_id = page.key)
FROM page ORDER BY page.key
"""
TABLES = (
    Table(CatalogCreated.aggregate, CATALOG_ROWS, CATALOG_ABSENT),
    Table(ItemEvent.aggregate, ITEM_ROWS, ITEM_ABSENT),
)


class CatalogRows:
    """Compares the catalog's tables; implements OwnRows."""

    name = "catalog-rows"

    async def compare(self, connection: Connection, named: int) -> RowDifference:
        """Compare all rows and heads, each page in a transaction of its own; see OwnRows."""
        difference = RowDifference(named)
        await _compare(connection, None, difference, planned_transaction)
        return difference


async def compare_catalog(connection: Connection, catalog_id: str, named: int) -> RowDifference:
    """Compare the rows of one catalog in the caller's transaction, which began with KEEP_DAYS."""
    difference = RowDifference(named)
    await _compare(connection, catalog_id, difference, psycopg.AsyncConnection.transaction)
    return difference


async def _compare(
    connection: Connection, catalog: str | None, difference: RowDifference, around: Around
) -> None:
    for table in TABLES:
        asked = {"aggregate": table.aggregate, "catalog": catalog}
        await _compare_rows(connection, table, asked, difference, around)
        await _compare_heads(connection, table, asked, difference, around)


async def _compare_rows(
    connection: Connection, table: Table, asked: Any, difference: RowDifference, around: Around
) -> None:
    """Add what is orphaned or different; a page that jsonb cannot hold is read in smaller ones."""
    after, limit = ["", ""], PAGE_ROWS
    while True:
        page = asked | {"after": after, "limit": limit, "readable": True}
        try:
            rows = await _ask(connection, table.rows, page, around)
        except psycopg.DataError:
            if limit > 1:
                limit = max(1, limit // 10)
                continue
            rows = await _ask(connection, table.rows, page | {"readable": False}, around)
        if not rows:
            return
        for _, key, kind in rows:
            difference.rows += 1
            if kind is not None:
                difference.add(DifferenceKind(kind), StreamKey(table.aggregate, key))
        after, limit = rows[-1][0], PAGE_ROWS


async def _compare_heads(
    connection: Connection, table: Table, asked: Any, difference: RowDifference, around: Around
) -> None:
    """Add what is missing."""
    after = ""
    while rows := await _ask(
        connection, table.absent, asked | {"after": after, "limit": PAGE_ROWS}, around
    ):
        for key, is_there in rows:
            difference.heads += 1
            if not is_there:
                difference.add(DifferenceKind.MISSING, StreamKey(table.aggregate, key))
        after = rows[-1][0]


async def _ask(
    connection: Connection, statement: LiteralString, values: Any, around: Around
) -> list[Any]:
    async with around(connection):
        return await (await connection.execute(statement, values)).fetchall()
