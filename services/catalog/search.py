"""Search: the read side of the catalog's search store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from httpx import HTTPError
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from outbox.errors import DependencyDown
from outbox.streams import Entry, StreamKey
from schemas.catalog import COLLECTION

SCROLL_POINTS = 1_000
# A ValueError is local mode's refusal, or an answer that is no JSON; an AssertionError one without
# a result.
NO_ANSWER = (ApiException, QdrantException, HTTPError, OSError, ValueError, AssertionError)


class Embedder(Protocol):
    """Turns a question into a vector of the collection's model."""

    async def embed(self, texts: Sequence[str]) -> Any: ...


@dataclass(frozen=True, slots=True)
class Hit:
    """One item found; `score` is the cosine similarity, at most 1."""

    item_id: str
    name: str
    score: float
    version: int
    attributes: Mapping[str, Any]


def connect(url: str, api_key: str | None, timeout_seconds: int) -> AsyncQdrantClient:
    """A client of the server at `url`, or of local mode at `file:FOLDER` or `:memory:`.

    Local mode is a stand-in: one process, one client, no index.
    """
    if url == ":memory:":
        return AsyncQdrantClient(location=url)
    if url.startswith("file:"):
        return AsyncQdrantClient(path=url.removeprefix("file:"))
    # The client's own check of the server's version asks from a thread and only warns.
    return AsyncQdrantClient(
        url=url, api_key=api_key, timeout=timeout_seconds, check_compatibility=False
    )


class Search:
    """Questions about one collection. All but `available` raise DependencyDown when it is away."""

    def __init__(self, connect: Callable[[], AsyncQdrantClient], embedder: Embedder) -> None:
        self._connect = connect
        self._embedder = embedder

    @cached_property
    def _client(self) -> AsyncQdrantClient:
        """Made at the first question: local mode locks its folder, and not every role asks."""
        return self._connect()

    async def available(self) -> bool:
        """Whether the collection can be reached at this moment."""
        try:
            return await self._client.collection_exists(COLLECTION)
        except (*NO_ANSWER, RuntimeError):  # RuntimeError: folder in use
            return False

    async def query(
        self, catalog_id: str, question: str, where: Mapping[str, str], limit: int, offset: int
    ) -> list[Hit]:
        """The nearest live items, best first; `where` holds for each of them."""
        vector = (await self._embedder.embed([question]))[0]
        try:
            response = await self._client.query_points(
                COLLECTION,
                query=[float(number) for number in vector],
                query_filter=_live(catalog_id, where),
                limit=limit,
                offset=offset,
            )
        except NO_ANSWER as error:
            raise DependencyDown("qdrant", error) from error
        return [_hit(point) for point in response.points]

    async def entries(self, catalog_id: str) -> list[Entry]:
        """What the store shows of a catalog's items, tombstones included."""
        entries: list[Entry] = []
        after: Any = None
        while True:
            try:
                points, after = await self._client.scroll(
                    COLLECTION,
                    scroll_filter=models.Filter(must=[_equals("fields.catalog_id", catalog_id)]),
                    limit=SCROLL_POINTS,
                    offset=after,
                    with_payload=["aggregate", "key", "version", "digest", "deleted"],
                )
            except NO_ANSWER as error:
                raise DependencyDown("qdrant", error) from error
            entries.extend(_entry(point.payload or {}) for point in points)
            if after is None:
                return entries


def _live(catalog_id: str, where: Mapping[str, str]) -> models.Filter:
    wanted: dict[str, str | bool] = {
        f"fields.attributes.{name}": value for name, value in where.items()
    }
    conditions: dict[str, str | bool] = {"fields.catalog_id": catalog_id, "deleted": False}
    return models.Filter(must=[_equals(key, value) for key, value in (conditions | wanted).items()])


def _equals(key: str, value: str | bool) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _hit(point: models.ScoredPoint) -> Hit:
    payload = point.payload or {}
    fields = payload["fields"]
    return Hit(
        fields["item_id"], fields["name"], point.score, payload["version"], fields["attributes"]
    )


def _entry(payload: Mapping[str, Any]) -> Entry:
    stream = StreamKey(payload["aggregate"], payload["key"])
    return Entry(stream, payload["version"], payload["digest"], payload["deleted"])
