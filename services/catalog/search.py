"""Search: asks the catalog's search store, which the projection writes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import structlog
from httpx import HTTPError
from pydantic import BaseModel, ConfigDict, ValidationError
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from outbox.errors import DependencyDown, StoreUnfit
from outbox.streams.heads import Entry
from outbox.streams.stored_entries import (
    ENTRY_FIELDS,
    MAX_FLOAT_VERSION,
    ForeignEntry,
    StoredEntry,
    read_entry_at,
)
from schemas.catalog import COLLECTION, Attributes, Id, ItemEvent, Name, item_key
from services.catalog.where import build_conditions, match_value

log = structlog.get_logger()

SCROLL_POINTS = 1_000
FOREIGN_ROUNDS = 5
# A ValueError is a refusal of local mode, or an answer that is no JSON. An AssertionError is an
# answer without a result.
NO_ANSWER = (ApiException, QdrantException, HTTPError, OSError, ValueError, AssertionError)


class QueryEmbedder(Protocol):
    """Turns a question into a vector of its own model."""

    async def embed(self, texts: Sequence[str]) -> Any: ...


class QueryEmbedders(Protocol):
    """Has an embedder for every model by which a collection may be embedded."""

    def named(self, model: str) -> QueryEmbedder:
        """The embedder of this model; StoreUnfit where there is none."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One item that was found; `score` is the cosine similarity, at most 1."""

    item_id: str
    name: str
    score: float
    version: int
    attributes: Mapping[str, Any]


class Fields(BaseModel):
    """What the projection stores of a live item beside its entry."""

    model_config = ConfigDict(hide_input_in_errors=True)

    catalog_id: Id
    item_id: Id
    name: Name
    attributes: Attributes


class Search:
    """Asks the live collection, which is the one behind the alias.

    A question is asked of one collection from beginning to end, even if the alias is switched
    meanwhile. All methods but `available` raise DependencyDown where the store is away.
    """

    def __init__(self, connect: Callable[[], AsyncQdrantClient], embedders: QueryEmbedders) -> None:
        self._connect = connect
        self._embedders = embedders
        self._models: dict[str, str] = {}  # by collection, whose model never changes

    @cached_property
    def _client(self) -> AsyncQdrantClient:
        """The client, made at the first question: local mode locks its folder for one process."""
        return self._connect()

    async def available(self) -> bool:
        """Whether the collection can be reached at this moment."""
        try:
            return await self._find_live() is not None
        except DependencyDown:
            return False

    async def query(
        self, catalog_id: str, question: str, where: Mapping[str, str], limit: int, offset: int
    ) -> list[Hit]:
        """The nearest live items, best first; `where` holds for each of them.

        Points of other programs are left out, with a warning in the log. Where there are so many of
        them that they fill FOREIGN_ROUNDS pages, fewer items are found.
        """
        collection = await self._require_live()
        vector = (await (await self._find_embedder(collection)).embed([question]))[0]
        numbers = [float(number) for number in vector]
        foreign: dict[str, ForeignEntry] = {}
        for _ in range(FOREIGN_ROUNDS):
            wanted = _build_filter(catalog_id, where, foreign)
            points = await self._find_nearest(collection, numbers, wanted, limit, offset)
            found = [_read_hit(point) for point in points]
            more = {each.place: each for each in found if isinstance(each, ForeignEntry)}
            foreign |= more
            if not more:
                break
        _warn(foreign.values())
        return [each for each in found if isinstance(each, Hit)]

    async def _find_nearest(
        self, collection: str, vector: list[float], wanted: models.Filter, limit: int, offset: int
    ) -> list[models.ScoredPoint]:
        with _translate_errors():
            response = await self._client.query_points(
                collection, query=vector, query_filter=wanted, limit=limit, offset=offset
            )
        return response.points

    async def entries(self, catalog_id: str) -> tuple[list[Entry], list[ForeignEntry]]:
        """The stored entries of a catalog's items, tombstones included, and the foreign points."""
        collection = await self._require_live()
        entries: list[Entry] = []
        foreign: list[ForeignEntry] = []
        after: Any = None
        while True:
            with _translate_errors():
                points, after = await self._client.scroll(
                    collection,
                    scroll_filter=models.Filter(
                        must=[match_value("fields.catalog_id", catalog_id)]
                    ),
                    limit=SCROLL_POINTS,
                    offset=after,
                    with_payload=ENTRY_FIELDS,
                )
            for point in points:
                read = _read(point, catalog_id)
                if isinstance(read, ForeignEntry):
                    foreign.append(read)
                else:
                    entries.append(read.entry)
            if after is None:
                return entries, foreign

    async def _find_live(self) -> str | None:
        """The collection behind the alias; None where there is no alias."""
        with _translate_errors():
            aliases = (await self._client.get_aliases()).aliases
        return next((a.collection_name for a in aliases if a.alias_name == COLLECTION), None)

    async def _require_live(self) -> str:
        if (live := await self._find_live()) is None:
            raise DependencyDown("qdrant", f"there is no alias {COLLECTION}")
        return live

    async def _find_embedder(self, collection: str) -> QueryEmbedder:
        """The embedder of the collection's model; DependencyDown where the model is not known."""
        try:
            return self._embedders.named(await self._find_model(collection))
        except StoreUnfit as error:
            raise DependencyDown("qdrant", f"collection {collection}: {error}") from error

    async def _find_model(self, collection: str) -> str:
        if collection not in self._models:
            with _translate_errors():
                info = await self._client.get_collection(collection)
            model = (info.config.metadata or {}).get("model")
            if not isinstance(model, str):
                raise StoreUnfit("it names no model, so it is not of our making")
            self._models[collection] = model
        return self._models[collection]


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except NO_ANSWER as error:
        raise DependencyDown("qdrant", error) from error


def _build_filter(
    catalog_id: str, where: Mapping[str, str], foreign: Iterable[str]
) -> models.Filter:
    live: dict[str, str | bool] = {
        "fields.catalog_id": catalog_id,
        "aggregate": ItemEvent.aggregate,
        "deleted": False,
    }
    known = models.HasIdCondition(has_id=[*foreign])
    return models.Filter(
        must=[*(match_value(key, value) for key, value in live.items()), *build_conditions(where)],
        must_not=[known] if known.has_id else None,
    )


def _read_hit(point: models.ScoredPoint) -> Hit | ForeignEntry:
    """The item that a point shows, or why the point is foreign."""
    try:
        item = Fields.model_validate((point.payload or {}).get("fields"))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, ("fields", *first["loc"])))
        return ForeignEntry(str(point.id), f"{where}: {first['msg']}")
    read = _read(point, item.catalog_id)
    if isinstance(read, ForeignEntry):
        return read
    if read.entry.stream.key != item_key(item.catalog_id, item.item_id):
        return ForeignEntry(str(point.id), "fields.item_id must be that of its key")
    return Hit(item.item_id, item.name, point.score, read.entry.version, item.attributes)


def _read(point: models.Record | models.ScoredPoint, catalog_id: str) -> StoredEntry | ForeignEntry:
    """The stored entry of a point, or why it is foreign; only this reads what Qdrant stores."""
    place, aggregates = str(point.id), (ItemEvent.aggregate,)
    read = read_entry_at(place, point.payload or {}, aggregates, MAX_FLOAT_VERSION)
    if isinstance(read, StoredEntry) and not read.entry.stream.key.startswith(f"{catalog_id}/"):
        return ForeignEntry(place, "its key is none of the catalog that its fields name")
    return read


def _warn(foreign: Iterable[ForeignEntry]) -> None:
    for each in foreign:
        log.warning("search finds a foreign point", place=each.place, why=each.why)
