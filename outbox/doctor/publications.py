"""Publications: whether somebody's logical replication refuses what we delete and update.

PostgreSQL refuses a DELETE or UPDATE that it is to publish, at a table that does not say which row
is meant. Ours all say so; a column list or a row filter that leaves their key out, and tables that
others have made or changed, do not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from outbox.doctor.diagnosis import Check, Finding, Gravity, of_each
from outbox.settings import Settings

IDENTITIES = Check(
    "outbox-replica-identities",
    Gravity.GRAVE,
    "each table of the outbox and the services that a publication of deletes or updates has in it"
    " has a replica identity: otherwise PostgreSQL refuses them, and retention deletes nothing",
    "ALTER TABLE ... REPLICA IDENTITY FULL (or DEFAULT, with a primary key); or a publication WITH"
    " (publish = 'insert'); or python -m services migrate",
)
CHECKS = (IDENTITIES,)

# Ours are the schemas that have migrations of ours. A primary key that may be deferred does not
# count. pg_publication_tables names a partitioned table in place of its partitions where that is
# what is published; what is deleted is a partition's all the same.
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
  AND CASE relation.relreplident
      WHEN 'f' THEN false
      WHEN 'n' THEN true
      WHEN 'i' THEN NOT EXISTS (SELECT FROM pg_index WHERE indrelid = relation.oid
                                AND indisreplident)
      ELSE NOT EXISTS (SELECT FROM pg_index WHERE indrelid = relation.oid AND indisprimary
                       AND indimmediate)
      END
GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Publications:
    """Tables that cannot be deleted from or updated, and the publications that see to that."""

    refusing: list[tuple[str, str]]


async def read(connection: psycopg.AsyncConnection[Any]) -> Publications:
    return Publications(await (await connection.execute(READ)).fetchall())


def judge(publications: Publications, settings: Settings) -> Iterator[Finding]:
    refusing = [
        (table, f"published by {names}, without a replica identity")
        for table, names in publications.refusing
    ]
    yield from of_each(IDENTITIES, settings, refusing, "all that is published has one")
