"""Qdrant as a projection: one point a key, fenced by version in the store itself.

A point's payload has our own names at the top, and what the caller describes under `fields`:
`aggregate, key, version, event_id, digest, deleted, model, content_hash, fields`. Search with
`LIVE`, or at least `deleted = false`: a delete leaves a tombstone point that keeps the version.

Weaknesses:
- `update_filter` fences an update only; an absent point is inserted whatever its version. Hence the
  tombstones: they must outlive the topic's retention, and nobody else may delete points or change
  their payload.
- A point under the id of one of our keys that is no valid entry of it (consumers/qdrant/points.py)
  counts as absent: an event replaces it, with a warning in the log. A foreign point that a filter
  cannot tell from a valid one stays, and the event becomes a dead letter that says so.
- Two writers that bring two events of one version at the same moment do not see each other: the
  first event stays, and a drift check reports the key as different.
- The store compares versions as 64-bit floats; a version above 2**53 is refused.
- Local mode is synchronous below the async client: a write blocks the event loop, and on disk it
  commits once a point. `batch_points` bounds each pause, and the loop runs between batches. Local
  mode has no indexes either, and only one process may use it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
from qdrant_client import AsyncQdrantClient, models

from consumers.projections.divergence import Divergence, refuse_divergent, split_divergent
from consumers.projections.projection import Change, Entry, StreamKey, batch_by_key, keep_latest
from consumers.qdrant.collection import Collection, Indexes
from consumers.qdrant.embedding import Embedder, embed_documents, list_reusable_ids, read_reusable
from consumers.qdrant.errors import QdrantRefused, require_completed, translate_errors
from consumers.qdrant.gather import gather
from consumers.qdrant.points import (
    LIVE,
    Document,
    ReadPoints,
    Vector,
    build_point,
    build_tombstone,
    fence_by_version,
    match_exactly,
    point_id,
    point_ids,
    read_point,
    read_points,
    replace_foreign,
    select_newer,
)
from outbox.errors import DependencyDown, MessageRejected, Violation
from outbox.runtime.pages import paginate
from outbox.streams.stored_entries import ENTRY_FIELDS, ForeignEntry

__all__ = ["LIVE", "Document", "Embedder", "QdrantProjection", "point_id"]

log = structlog.get_logger()

Fence = Callable[[Iterable[models.PointStruct]], list[models.UpsertOperation]]

BATCHES_SIDE_BY_SIDE = 2  # they have no key in common; one is prepared while one is written
FIELDS_TO_COMPARE = [*ENTRY_FIELDS, "model", "content_hash"]


class QdrantProjection:
    """A Projection over a collection that belongs to it alone; the module lists its weaknesses.

    `indexes` names further payload fields to index (`fields.catalog_id`). `describe` is called for
    every change and must be a pure function. Of a delete, its text is ignored, and its fields say
    what the tombstone belongs to. `batch_points` is how many keys one request writes.
    """

    name = "qdrant"
    page_points = 1000  # how many points one request reads

    def __init__(
        self,
        client: AsyncQdrantClient,
        collection: str,
        describe: Callable[[Change], Document],
        embedder: Embedder,
        *,
        aggregates: Iterable[str],
        topics: Iterable[str],
        indexes: Indexes | None = None,
        batch_points: int = 256,
    ) -> None:
        self.collection = collection
        self.aggregates = frozenset(aggregates)
        self.topics = tuple(topics)
        self._client = client
        self._describe = describe
        self._embedder = embedder
        self._collection = Collection(client, collection, embedder, indexes or {})
        self._batch_points = batch_points

    @property
    def model(self) -> str:
        """The name of the model that makes its vectors."""
        return self._embedder.model

    async def prepare(self) -> None:
        """Create the collection and its indexes; StoreUnfit where this store cannot serve."""
        await self._collection.prepare()

    async def apply(self, changes: Sequence[Change]) -> None:
        """Apply the changes; embed only texts that the store does not have, in one call a batch.

        Raises MessageRejected, with the reason `diverged` or `refused-by-store`, once everything
        else is durable.
        """
        free = asyncio.Semaphore(BATCHES_SIDE_BY_SIDE)
        work = (
            self._apply_batch(batch, free) for batch in batch_by_key(changes, self._batch_points)
        )
        done = await gather(work)
        refuse_divergent(self.name, [each for diverging, _ in done for each in diverging])
        _reject([violation for _, unfit in done for violation in unfit])

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        """What the store holds of these keys, tombstones included; absent keys are left out."""
        records = await self._retrieve(point_ids(streams), with_payload=ENTRY_FIELDS)
        read = [read_point(record, self.aggregates) for record in records]
        entries = [each.entry for each in read if not isinstance(each, ForeignEntry)]
        return {entry.stream: entry for entry in entries}

    async def scan(self) -> AsyncIterator[Entry | ForeignEntry]:
        """Everything in the collection, page by page.

        A point that comes while the scan goes on may or may not be in it.
        """
        offset: Any = None
        while True:
            records, offset = await self._collection.ask(
                self._client.scroll(
                    self.collection,
                    limit=self.page_points,
                    offset=offset,
                    with_payload=ENTRY_FIELDS,
                )
            )
            for record in records:
                read = read_point(record, self.aggregates)
                yield read if isinstance(read, ForeignEntry) else read.entry
            if offset is None:
                return

    async def delete_if_unchanged(self, entries: Sequence[Entry]) -> None:
        """Delete these entries where they are unchanged; the store itself compares, by a filter."""
        for page in paginate(entries, self._batch_points):
            selector = models.FilterSelector(filter=match_exactly(page))
            result = await self._collection.ask(
                self._client.delete(self.collection, points_selector=selector, wait=True)
            )
            require_completed([result], 1)
            await asyncio.sleep(0)

    async def count(self, condition: models.Filter | None = LIVE) -> int:
        """The exact number of points that match; None counts all, tombstones included."""
        result = await self._collection.ask(
            self._client.count(self.collection, count_filter=condition, exact=True)
        )
        return int(result.count)

    async def _apply_batch(
        self, batch: Sequence[Change], free: asyncio.Semaphore
    ) -> tuple[list[Divergence], list[Violation]]:
        """Write a batch; return what diverges in it, and what the store can never take."""
        async with free:
            ids = point_ids(dict.fromkeys(change.stream for change in batch))
            records = await self._retrieve(ids, with_payload=FIELDS_TO_COMPARE)
            held = read_points(records, self.aggregates)
            flowing, diverging = split_divergent(batch, held.identities)
            points = await self._build_points(flowing, held)
            refused = await self._write([p for p in points if str(p.id) not in held.foreign])
            unfit = [*map(_describe_unfit, refused)]
            unfit += await self._displace([p for p in points if str(p.id) in held.foreign])
            await asyncio.sleep(0)  # local mode never waits, so no other task has run
            return diverging, unfit

    async def _displace(self, points: Sequence[models.PointStruct]) -> list[Violation]:
        """Write over foreign entries, and look again; return what is wrong with those that stay."""
        for each in points:
            log.warning("overwrites a foreign entry", store=self.name, place=str(each.id))
        refused = await self._write(points, replace_foreign)
        left = await self._retrieve([str(each.id) for each in points], with_payload=ENTRY_FIELDS)
        stays = read_points(left, self.aggregates).foreign
        others = [p for p in points if str(p.id) in stays and p not in refused]
        return [
            *map(_describe_unfit, refused),
            *(_describe_blocked(p, stays[str(p.id)]) for p in others),
        ]

    async def _build_points(
        self, changes: Sequence[Change], held: ReadPoints
    ) -> list[models.PointStruct]:
        """The points to write: those that are newer than what the store holds."""
        newer = select_newer(keep_latest(changes), held.identities)
        documents = {c.stream: self._describe(c) for c in newer}
        live = [documents[c.stream] for c in newer if not c.deleted]
        reusable = list_reusable_ids(held.records, live, self._embedder)
        with_vectors = await self._retrieve(
            reusable, with_payload=["content_hash"], with_vectors=True
        )
        made = await embed_documents(self._embedder, live, read_reusable(with_vectors))
        return [self._build_point(c, documents[c.stream], made) for c in newer]

    def _build_point(
        self, change: Change, document: Document, made: Mapping[str, Vector]
    ) -> models.PointStruct:
        if change.deleted:
            return build_tombstone(change, self._embedder.dimension, document.fields)
        more = {
            "model": self._embedder.model,
            "content_hash": document.content_hash,
            "fields": dict(document.fields),
        }
        return build_point(change, made[document.content_hash], more)

    async def _write(
        self, points: Sequence[models.PointStruct], fence: Fence = fence_by_version
    ) -> list[models.PointStruct]:
        """Write the points; return those that the store can never take.

        Some operations of a refused request may have been done (qdrant #9364). They are fenced, so
        it is harmless to send them again.
        """
        if not points:
            return []
        operations = fence(points)
        try:
            with translate_errors():
                results = await self._client.batch_update_points(
                    self.collection, operations, wait=True
                )
        except QdrantRefused as refused:
            return await self._write_halves(points, refused, fence)
        require_completed(results, len(operations))
        return []

    async def _write_halves(
        self, points: Sequence[models.PointStruct], refused: QdrantRefused, fence: Fence
    ) -> list[models.PointStruct]:
        """Write the two halves of a refused request, until a single point is left at fault."""
        await self._collection.require_ours()
        if not refused.may_be_a_point:
            raise DependencyDown("qdrant", str(refused)) from refused
        if len(points) > 1:
            half = len(points) // 2
            first = await self._write(points[:half], fence)
            return [*first, *await self._write(points[half:], fence)]
        if not refused.by_store:
            raise DependencyDown("qdrant", f"before it: {refused}") from refused
        log.warning("qdrant refuses a point", key=_key_of(points[0]), why=str(refused))
        return list(points)

    async def _retrieve(
        self, ids: Sequence[str], *, with_payload: list[str], with_vectors: bool = False
    ) -> list[models.Record]:
        records: list[models.Record] = []
        for page in paginate(ids, self.page_points):
            records += await self._collection.ask(
                self._client.retrieve(
                    self.collection, page, with_payload=with_payload, with_vectors=with_vectors
                )
            )
        return records


def _key_of(point: models.PointStruct) -> str:
    return str((point.payload or {})["key"])


def _describe_unfit(point: models.PointStruct) -> Violation:
    return Violation("body", f"{_key_of(point)} must be a point that qdrant takes")


def _describe_blocked(point: models.PointStruct, foreign: ForeignEntry) -> Violation:
    key = _key_of(point)
    rule = f"{key} must find its place free: remove the foreign point {foreign.place} from qdrant"
    return Violation("body", f"{rule} ({foreign.why})")


def _reject(violations: Sequence[Violation]) -> None:
    if violations:
        raise MessageRejected("refused-by-store", *violations)
