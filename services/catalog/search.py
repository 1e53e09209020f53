"""Search: the read side of the catalog's search store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from services.catalog.local_qdrant import LocalQdrant

SCROLL_POINTS = 1_000
# A ValueError is local mode's refusal, or an answer that is no JSON; an AssertionError one without
# a result.
NO_ANSWER = (ApiException, QdrantException, HTTPError, OSError, ValueError, AssertionError)


class Embedder(Protocol):
    """Turns a question into a vector of its model."""

    async def embed(self, texts: Sequence[str]) -> Any: ...


class Embedders(Protocol):
    """Knows the embedder of every model that a collection may be of."""

    def named(self, model: str) -> Embedder:
        """SchemaBehind where it has none of that name."""


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
        return LocalQdrant(url.removeprefix("file:"))
    # The client's own check of the server's version asks from a thread and only warns.
    return AsyncQdrantClient(
        url=url, api_key=api_key, timeout=timeout_seconds, check_compatibility=False
    )


class Search:
    """Questions about the live collection, each to one, whole, whatever is switched meanwhile.

    All but `available` raise DependencyDown when it is away.
    """

    def __init__(self, connect: Callable[[], AsyncQdrantClient], embedders: Embedders) -> None:
        self._connect = connect
        self._embedders = embedders
        self._models: dict[str, str] = {}  # of collections, whose model never changes

    @cached_property
    def _client(self) -> AsyncQdrantClient:
        """Made at the first question: local mode locks its folder, and not every role asks."""
        return self._connect()

    async def available(self) -> bool:
        """Whether the collection can be reached at this moment."""
        try:
            return await self._live() is not None
        except (DependencyDown, RuntimeError):  # RuntimeError: folder in use
            return False

    async def query(
        self, catalog_id: str, question: str, where: Mapping[str, str], limit: int, offset: int
    ) -> list[Hit]:
        """The nearest live items, best first; `where` holds for each of them."""
        collection = await self._required()
        embedder = self._embedders.named(await self._model_of(collection))
        vector = (await embedder.embed([question]))[0]
        with _answered():
            response = await self._client.query_points(
                collection,
                query=[float(number) for number in vector],
                query_filter=_shown(catalog_id, where),
                limit=limit,
                offset=offset,
            )
        return [_hit(point) for point in response.points]

    async def entries(self, catalog_id: str) -> list[Entry]:
        """What the store shows of a catalog's items, tombstones included."""
        collection = await self._required()
        entries: list[Entry] = []
        after: Any = None
        while True:
            with _answered():
                points, after = await self._client.scroll(
                    collection,
                    scroll_filter=models.Filter(must=[_equals("fields.catalog_id", catalog_id)]),
                    limit=SCROLL_POINTS,
                    offset=after,
                    with_payload=["aggregate", "key", "version", "digest", "deleted"],
                )
            entries.extend(_entry(point.payload or {}) for point in points)
            if after is None:
                return entries

    async def _live(self) -> str | None:
        """The collection behind the alias."""
        with _answered():
            aliases = (await self._client.get_aliases()).aliases
        return next((a.collection_name for a in aliases if a.alias_name == COLLECTION), None)

    async def _required(self) -> str:
        if (live := await self._live()) is None:
            raise DependencyDown("qdrant", f"there is no alias {COLLECTION}")
        return live

    async def _model_of(self, collection: str) -> str:
        if collection not in self._models:
            with _answered():
                info = await self._client.get_collection(collection)
            self._models[collection] = (info.config.metadata or {})["model"]
        return self._models[collection]


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except NO_ANSWER as error:
        raise DependencyDown("qdrant", error) from error


def _shown(catalog_id: str, where: Mapping[str, str]) -> models.Filter:
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
