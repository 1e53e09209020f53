"""Qdrant as a projection: one point a key, fenced by version in the store itself.

A point's payload keeps our own names at the top and what the caller describes under `fields`:
`aggregate, key, version, event_id, digest, deleted, model, content_hash, fields`. Search with
`LIVE`, or at least `deleted = false`: a delete leaves a tombstone point that keeps the version.

Weaknesses:
- `update_filter` fences an update; an absent point is inserted whatever its version. Hence the
  tombstones: they must outlive the topic's retention, and nobody else may delete points.
- Two writers that bring two events of one version at the same moment do not see each other: the
  first one stays, and drift shows the key as different.
- The store compares versions as 64-bit floats; a version above 2**53 is refused.
- Local mode is synchronous below the async client: a write blocks the event loop, on disk with a
  commit a point. `batch_points` bounds each pause, and the loop gets its turn between batches.
  It has no indexes either, and one process may use it.
- REST only: errors of gRPC are not translated.
"""

import asyncio
import sqlite3
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from typing import Any, TypeVar

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from consumers.divergence import Divergence, part, refuse
from consumers.embedding import Embedder, reusable, vectors
from consumers.points import (
    LIVE,
    SHOWN,
    Document,
    Vector,
    entry_of,
    fenced,
    newer_than,
    point,
    point_id,
    stamps,
    tombstone,
)
from consumers.projection import Change, Entry, StreamKey, batches, latest
from outbox.errors import DependencyDown, SchemaBehind, rejected

__all__ = ["LIVE", "Document", "Embedder", "QdrantProjection", "point_id"]

T = TypeVar("T")
Indexes = Mapping[str, models.PayloadSchemaType]

MINIMUM = (1, 19)  # older servers may resurrect deleted points when they replay their log
SCAN_PAGE_POINTS = 1000
KNOWN = ["aggregate", "key", "version", "event_id", "digest", "model", "content_hash"]
REFUSED = frozenset({400, 413, 422})
OWN_INDEXES: Indexes = {
    "aggregate": models.PayloadSchemaType.KEYWORD,
    "version": models.PayloadSchemaType.INTEGER,
    "deleted": models.PayloadSchemaType.BOOL,
}


class QdrantProjection:
    """A Projection over a collection that belongs to it alone; see the module for its limits.

    `indexes` names further payload fields to index (`fields.catalog_id`). `describe` is asked for
    every change and must be a pure function; of a delete the text is ignored, and the fields
    say what the tombstone belongs to.
    """

    name = "qdrant"

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
        self._indexes = {**OWN_INDEXES, **(indexes or {})}
        self._batch_points = batch_points

    async def prepare(self) -> None:
        """Create the collection and its indexes; SchemaBehind where this store cannot serve."""
        with translated():
            if self._is_server:
                await self._require_version()
            if not await self._client.collection_exists(self.collection):
                await self._create()
            await self._require_dimension()
            if self._is_server:
                await self._index()

    async def apply(self, changes: Sequence[Change]) -> None:
        """As in Projection; embeds only what the store does not have, in one call a batch."""
        divergences: list[Divergence] = []
        for batch in batches(changes, self._batch_points):
            divergences += await self._apply_batch(batch)
            await asyncio.sleep(0)  # local mode never waits for anything, so others never ran
        refuse(self.name, divergences)

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        """As in Projection."""
        records = await self._retrieve(streams, with_payload=SHOWN)
        entries = [entry_of(record.payload or {}) for record in records]
        return {entry.stream: entry for entry in entries}

    async def scan(self) -> AsyncIterator[Entry]:
        """As in Projection, page by page; a point that came meanwhile may or may not be in it."""
        offset: Any = None
        while True:
            records, offset = await self._run(
                self._client.scroll(
                    self.collection, limit=SCAN_PAGE_POINTS, offset=offset, with_payload=SHOWN
                )
            )
            for record in records:
                if (record.payload or {}).get("aggregate") in self.aggregates:
                    yield entry_of(record.payload or {})
            if offset is None:
                return

    async def count(self, condition: models.Filter | None = LIVE) -> int:
        """How many points match, exactly; the live ones unless told otherwise, None for all."""
        result = await self._run(
            self._client.count(self.collection, count_filter=condition, exact=True)
        )
        return int(result.count)

    @property
    def _is_server(self) -> bool:
        options = self._client.init_options
        return options.get("location") != ":memory:" and options.get("path") is None

    async def _require_version(self) -> None:
        version = (await self._client.info()).version
        if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM:
            least = ".".join(map(str, MINIMUM))
            raise SchemaBehind(f"qdrant is {version}: upgrade the server to {least} or newer")

    async def _create(self) -> None:
        size = self._embedder.dimension
        config = models.VectorParams(size=size, distance=models.Distance.COSINE)
        try:
            await self._client.create_collection(self.collection, vectors_config=config)
        except UnexpectedResponse as error:
            if error.status_code != 409:  # somebody else was faster
                raise

    async def _require_dimension(self) -> None:
        params = (await self._client.get_collection(self.collection)).config.params.vectors
        size = params.size if isinstance(params, models.VectorParams) else None
        if size != self._embedder.dimension:
            raise SchemaBehind(
                f"qdrant collection {self.collection} has dimension {size}, "
                f"{self._embedder.model} has {self._embedder.dimension}: "
                "name another collection and rebuild into it"
            )

    async def _index(self) -> None:
        for name, schema in self._indexes.items():
            await self._client.create_payload_index(self.collection, name, schema, wait=True)

    async def _apply_batch(self, changes: Sequence[Change]) -> list[Divergence]:
        streams = list(dict.fromkeys(change.stream for change in changes))
        records = await self._retrieve(streams, with_payload=KNOWN, with_vectors=True)
        shown = stamps(records)
        flowing, divergences = part(changes, shown)
        newer = newer_than(latest(flowing), shown)
        documents = {c.stream: self._describe(c) for c in newer}
        live = [documents[c.stream] for c in newer if not c.deleted]
        made = await vectors(self._embedder, live, reusable(records, self._embedder))
        await self._write([self._point(c, documents[c.stream], made) for c in newer])
        return divergences

    def _point(
        self, change: Change, document: Document, made: Mapping[str, Vector]
    ) -> models.PointStruct:
        if change.deleted:
            return tombstone(change, self._embedder.dimension, document.fields)
        more = {
            "model": self._embedder.model,
            "content_hash": document.content_hash,
            "fields": dict(document.fields),
        }
        return point(change, made[document.content_hash], more)

    async def _write(self, points: Sequence[models.PointStruct]) -> None:
        if not points:
            return
        try:
            results = await self._run(
                self._client.batch_update_points(self.collection, fenced(points), wait=True)
            )
        except (UnexpectedResponse, ValueError) as error:
            with translated():
                await self._require_dimension()
            raise rejected(
                "refused-by-store", "body", "must be a point that qdrant takes"
            ) from error
        _require_completed(results)

    async def _retrieve(
        self, streams: Sequence[StreamKey], *, with_payload: list[str], with_vectors: bool = False
    ) -> list[models.Record]:
        records: list[models.Record] = []
        ids = [point_id(stream) for stream in streams]
        for start in range(0, len(ids), SCAN_PAGE_POINTS):
            page = ids[start : start + SCAN_PAGE_POINTS]
            records += await self._run(
                self._client.retrieve(
                    self.collection, page, with_payload=with_payload, with_vectors=with_vectors
                )
            )
        return records

    async def _run(self, call: Awaitable[T]) -> T:
        with translated():
            try:
                return await call
            except ValueError:  # local mode's word for everything that a server answers with 4xx
                if not await self._client.collection_exists(self.collection):
                    raise DependencyDown("qdrant", f"no collection {self.collection}") from None
                raise


@contextmanager
def translated() -> Iterator[None]:
    """The client's errors as DependencyDown; only a refused request (400, 413, 422) stays raw."""
    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code in REFUSED:
            raise
        raise DependencyDown("qdrant", _said(error)) from error
    except ResponseHandlingException as error:
        raise DependencyDown("qdrant", error.source) from error
    except (QdrantException, sqlite3.OperationalError) as error:
        raise DependencyDown("qdrant", error) from error


def _said(error: UnexpectedResponse) -> str:
    said = error.content[:200].decode(errors="replace")
    return f"{error.status_code} {error.reason_phrase} {said}"


def _require_completed(results: Iterable[models.UpdateResult]) -> None:
    """`acknowledged` and `wait_timeout` say nothing of the write: it is repeated."""
    for result in results:
        if result.status != models.UpdateStatus.COMPLETED:
            raise DependencyDown("qdrant", f"a write is {result.status}, not completed")
