"""The check of publications: whether logical replication makes PostgreSQL refuse our statements.

PostgreSQL refuses a DELETE or UPDATE that a publication contains, at a table without a replica
identity that says which row is meant. All our tables have one. It is of no use where a column list
or a row filter leaves the key out, and tables that others have made or changed may lack one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from outbox.doctor.diagnosis import Check, CheckResult, SeverityPolicy, judge_each
from outbox.settings import Settings

IDENTITIES = Check(
    "outbox-replica-identities",
    SeverityPolicy.GRAVE,
    "each table of the outbox and the services that a publication of deletes or updates has in it"
    " has a replica identity, of which no column list or row filter leaves anything out: otherwise"
    " PostgreSQL refuses them, and retention deletes nothing",
    "ALTER TABLE ... REPLICA IDENTITY FULL (or DEFAULT, with a primary key); or a publication"
    " without columns and filter, or WITH (publish = 'insert'); or python -m services migrate",
)
CHECKS = (IDENTITIES,)

# Our schemas are those that have migrations of ours. pg_publication_tables may name a partitioned
# table in place of its partitions; a row is deleted from a partition all the same.
READ = """
SELECT format('%I.%I', space.nspname, relation.relname) AS name,
       string_agg(DISTINCT publication.pubname::text, ', ') AS publications
FROM pg_publication AS publication
JOIN pg_publication_tables AS published USING (pubname)
JOIN pg_class AS top ON top.relname = published.tablename
JOIN pg_namespace AS space ON space.oid = top.relnamespace AND space.nspname = published.schemaname
CROSS JOIN LATERAL (
    SELECT top.oid AS leaf UNION SELECT relid FROM pg_partition_tree(top.oid)) AS tree
JOIN pg_class AS relation ON relation.oid = tree.leaf AND relation.relkind = 'r'
WHERE (publication.pubupdate OR publication.pubdelete)
  AND space.nspname IN (SELECT component FROM outbox.migrations)
GROUP BY 1 ORDER BY 1
"""
# PostgreSQL refuses the statement before it looks at rows, so it refuses to explain it, too.
TRIED = "EXPLAIN DELETE FROM {}"


@dataclass(frozen=True, slots=True)
class Publications:
    """`refusing` are pairs of a table that takes no DELETE or UPDATE, and the reason."""

    refusing: list[tuple[str, str]]


async def read(connection: psycopg.AsyncConnection[Any]) -> Publications:
    published = await (await connection.execute(READ)).fetchall()
    tried = [(name, names, await _read_refusal(connection, name)) for name, names in published]
    return Publications([(name, f"published by {by}: {why}") for name, by, why in tried if why])


async def _read_refusal(connection: psycopg.AsyncConnection[Any], table: str) -> str | None:
    """Return why PostgreSQL refuses a DELETE from this (quoted) table; None where it does not."""
    try:
        await connection.execute(TRIED.format(table).encode())
    except (
        psycopg.errors.ObjectNotInPrerequisiteState,
        psycopg.errors.InvalidColumnReference,
    ) as error:
        return error.diag.message_detail or error.diag.message_primary
    except psycopg.errors.InsufficientPrivilege:
        return None  # this role deletes nothing there
    return None


def judge(publications: Publications, settings: Settings) -> Iterator[CheckResult]:
    yield from judge_each(
        IDENTITIES, settings, publications.refusing, "all that is published has one"
    )
