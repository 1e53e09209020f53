"""Publications: whether somebody's logical replication refuses what we delete and update.

PostgreSQL refuses a DELETE or UPDATE that it is to publish, at a table that does not say which row
is meant. Ours all say so; a column list or a row filter that leaves their key out, and tables that
others have made or changed, do not.
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

# Ours are the schemas that have migrations of ours. pg_publication_tables names a partitioned table
# in place of its partitions where that is what is published; what is deleted is a partition's all
# the same.
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
# PostgreSQL refuses a statement before it looks at rows, and so one that it only explains.
TRIED = "EXPLAIN DELETE FROM {}"


@dataclass(frozen=True, slots=True)
class Publications:
    """Tables that cannot be deleted from or updated; the publications that see to that, and how."""

    refusing: list[tuple[str, str]]


async def read(connection: psycopg.AsyncConnection[Any]) -> Publications:
    published = await (await connection.execute(READ)).fetchall()
    tried = [(name, names, await _refusal(connection, name)) for name, names in published]
    return Publications([(name, f"published by {by}: {why}") for name, by, why in tried if why])


async def _refusal(connection: psycopg.AsyncConnection[Any], table: str) -> str | None:
    """In PostgreSQL's words; `table` is quoted."""
    try:
        await connection.execute(TRIED.format(table).encode())
    except (
        psycopg.errors.ObjectNotInPrerequisiteState,
        psycopg.errors.InvalidColumnReference,
    ) as error:
        return error.diag.message_detail or error.diag.message_primary
    except psycopg.errors.InsufficientPrivilege:
        return None  # whoever may delete there is somebody else
    return None


def judge(publications: Publications, settings: Settings) -> Iterator[CheckResult]:
    yield from judge_each(
        IDENTITIES, settings, publications.refusing, "all that is published has one"
    )
