"""Planting: what is broken in a store, and where. It goes through the store's own client."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neo4j import AsyncDriver
from qdrant_client import AsyncQdrantClient, models

from consumers.projections.projection import Change, StreamKey
from consumers.qdrant.points import build_payload, point_id
from outbox.streams.difference import DifferenceKind
from schemas.catalog import ItemEvent

ALTERED = "0" * 32

DELETE = "MATCH (n:Item) WHERE n.key IN $keys DETACH DELETE n"
# Make the node what it was when this version was the latest.
ROLL_BACK = """UNWIND $rows AS row
MATCH (n:Item {key: row.key})
SET n.version = row.version, n.event_id = row.event_id, n.digest = row.digest"""
ALTER = "MATCH (n:Item) WHERE n.key IN $keys SET n.digest = $digest, n.name = 'altered'"
CREATE = "UNWIND $rows AS row CREATE (n:Item) SET n = row"


@dataclass(frozen=True, slots=True)
class Plan:
    """The keys that are broken, by how they are broken; no key is in two groups."""

    missing: tuple[str, ...]
    stale: tuple[str, ...]
    different: tuple[str, ...]
    orphaned: tuple[str, ...]

    def streams(self) -> dict[DifferenceKind, set[StreamKey]]:
        """Return what a check must find, by the kind of difference."""
        return {
            kind: {StreamKey(ItemEvent.aggregate, key) for key in getattr(self, kind, ())}
            for kind in DifferenceKind
        }

    @property
    def keys(self) -> int:
        return sum(map(len, self.streams().values()))


def plan(once: Sequence[str], twice: Sequence[str], keys: int, seed: int) -> Plan:
    """Draw the keys to break: of 100,000 keys 500 go missing, 300 stale, 200 different.

    100 in 100,000 are planted as orphans, under keys of their own. The stale ones come from
    `twice`, since only a key with two versions can be rolled back. The same seed draws the same.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable, not a secret
    missing, stale, different, orphaned = (
        max(1, keys * share // 100_000) for share in (500, 300, 200, 100)
    )
    stales = chance.sample(list(twice), stale)
    rest = chance.sample([*once, *(set(twice) - set(stales))], missing + different)
    ghosts = tuple(f"ghosts/{number}" for number in range(orphaned))
    return Plan(tuple(rest[:missing]), tuple(stales), tuple(rest[missing:]), ghosts)


async def plant_points(
    client: AsyncQdrantClient,
    collection: str,
    planned: Plan,
    older: Mapping[str, Change],
    dimension: int,
) -> None:
    """Break the collection as planned; `older` has what each stale key is rolled back to."""
    await client.delete(collection, models.PointIdsList(points=_ids(planned.missing)), wait=True)
    for key in planned.stale:
        await client.set_payload(collection, build_payload(older[key]), points=_ids([key]))
    altered = {"digest": ALTERED, "fields": {"name": "altered"}}
    await client.set_payload(collection, altered, points=_ids(planned.different))
    vector = [1.0] + [0.0] * (dimension - 1)
    ghosts = [
        models.PointStruct(id=_ids([key])[0], vector=vector, payload=_make_ghost(key))
        for key in planned.orphaned
    ]
    await client.upsert(collection, ghosts, wait=True)


async def plant_nodes(
    driver: AsyncDriver, database: str, planned: Plan, older: Mapping[str, Change]
) -> None:
    """Break the graph as planned; `older` has what each stale key is rolled back to."""

    async def run(statement: str, **parameters: Any) -> None:
        await driver.execute_query(statement, parameters, database_=database)

    await run(DELETE, keys=list(planned.missing))
    await run(ROLL_BACK, rows=[build_payload(older[key]) for key in planned.stale])
    await run(ALTER, keys=list(planned.different), digest=ALTERED)
    await run(CREATE, rows=[_make_ghost(key) for key in planned.orphaned])


def _ids(keys: Sequence[str]) -> list[models.ExtendedPointId]:
    return [point_id(StreamKey(ItemEvent.aggregate, key)) for key in keys]


def _make_ghost(key: str) -> dict[str, Any]:
    """Return what a store holds of a key that has no stream head."""
    return {
        "aggregate": ItemEvent.aggregate,
        "key": key,
        "version": 3,
        "event_id": "ghost",
        "digest": ALTERED,
        "deleted": False,
    }
