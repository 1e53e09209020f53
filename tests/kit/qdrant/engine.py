"""Engine: stores points behind the scripted server. EdgeEngine is Qdrant's own.

The latter comes from the wheel `qdrant-edge-py`: the same segments, filters and write-ahead log as
the server's. This module imports little, so that a process with it starts quickly.
"""

import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

Json = dict[str, Any]
Record = tuple[str, Json, list[float]]  # id, payload, vector


class WrongInputError(Exception):
    """What Qdrant answers with a 4xx status."""

    def __init__(self, said: str, status: int = 400) -> None:
        super().__init__(said)
        self.status = status


class Engine(Protocol):
    """A store of points. It raises WrongInputError for what it does not accept."""

    async def size(self, collection: str) -> int | None:
        """The dimension of a collection; None where it is not there."""

    async def create(self, collection: str, size: int) -> None: ...

    async def drop(self, collection: str) -> None: ...

    async def upsert(self, collection: str, points: Sequence[Json], fence: Json | None) -> None:
        """Insert each point, or update the one that is there if it matches the filter `fence`."""

    async def delete(self, collection: str, condition: Json) -> None:
        """Delete every point that matches."""

    async def retrieve(
        self, collection: str, ids: Sequence[str], fields: list[str] | None, *, vectors: bool
    ) -> list[Record]:
        """Return these points with these payload fields (None: all), and vectors if asked for."""

    async def scroll(
        self, collection: str, limit: int, offset: str | None
    ) -> tuple[list[Record], str | None]: ...

    async def close(self) -> None: ...


class EdgeEngine:
    """Qdrant's own engine, with a shard for each collection in an existing `folder`.

    Shards that are there are loaded. An update is in the write-ahead log when it returns, as on the
    server.
    """

    def __init__(self, folder: Path) -> None:
        self._edge: Any = importlib.import_module("qdrant_edge")
        self._folder = folder
        self._shards: dict[str, Any] = {
            path.name: self._edge.EdgeShard.load(str(path))
            for path in folder.iterdir()
            if path.is_dir()
        }

    async def size(self, collection: str) -> int | None:
        if collection not in self._shards:
            return None
        config = orjson.loads((self._folder / collection / "edge_config.json").read_bytes())
        return int(config["vectors"][""]["size"])

    async def create(self, collection: str, size: int) -> None:
        params = self._edge.EdgeVectorParams(size=size, distance=self._edge.Distance.Cosine)
        config = self._edge.EdgeConfig(vectors={"": params})
        path = self._folder / collection
        self._shards[collection] = self._edge.EdgeShard.create(str(path), config)

    async def drop(self, collection: str) -> None:
        self._shards.pop(collection).close()
        shutil.rmtree(self._folder / collection)

    async def upsert(self, collection: str, points: Sequence[Json], fence: Json | None) -> None:
        made = [self._edge.Point(p["id"], p["vector"], p["payload"]) for p in points]
        operation = self._edge.UpdateOperation.upsert_points(
            made, fence and self._filter(collection, fence)
        )
        try:
            self._shards[collection].update(operation)
        except Exception as error:  # the wheel knows no other kind
            raise WrongInputError(str(error)) from error

    async def delete(self, collection: str, condition: Json) -> None:
        """Delete what matches, judged here: the wheel looks for 0 instead of false."""
        wanted = [each["has_id"] for each in condition["must"] if "has_id" in each]
        ids = [point for some in wanted for point in some]
        found = await self.retrieve(collection, ids, None, vectors=False)
        gone = [record[0] for record in found if matches(condition, record)]
        self._shards[collection].update(self._edge.UpdateOperation.delete_points(gone))

    async def retrieve(
        self, collection: str, ids: Sequence[str], fields: list[str] | None, *, vectors: bool
    ) -> list[Record]:
        found = self._shards[collection].retrieve(list(ids), fields or True, vectors)
        return [(str(record.id), record.payload, record.vector or []) for record in found]

    async def scroll(
        self, collection: str, limit: int, offset: str | None
    ) -> tuple[list[Record], str | None]:
        request = self._edge.ScrollRequest(
            limit=limit, offset=offset, with_payload=True, with_vector=True
        )
        found, after = self._shards[collection].scroll(request)
        records = [(str(record.id), record.payload, record.vector) for record in found]
        return records, None if after is None else str(after)

    async def filtered(self, collection: str, condition: Json) -> list[Record]:
        """Return all points that the engine's own filter lets through."""
        request = self._edge.ScrollRequest(
            limit=100_000,
            filter=self._filter(collection, condition),
            with_payload=True,
            with_vector=True,
        )
        found, _ = self._shards[collection].scroll(request)
        return [(str(record.id), record.payload, record.vector) for record in found]

    async def close(self) -> None:
        for shard in self._shards.values():
            shard.close()

    def _filter(self, collection: str, condition: Json) -> Any:
        """Return a filter of the REST interface as the wheel takes it."""
        clauses = {
            name: [self._condition(collection, each) for each in condition[name]]
            for name in ("must", "should", "must_not")
            if condition.get(name)
        }
        return self._edge.Filter(**clauses)

    def _condition(self, collection: str, condition: Json) -> Any:
        if "has_id" in condition:
            return self._edge.HasIdCondition(set(condition["has_id"]))
        if "is_empty" in condition:
            return self._edge.IsEmptyCondition(condition["is_empty"]["key"])
        if "key" not in condition:
            return self._filter(collection, condition)
        if condition.get("range"):
            bounds = {name: n for name, n in condition["range"].items() if n is not None}
            return self._edge.FieldCondition(
                key=condition["key"], range=self._edge.RangeFloat(**bounds)
            )
        value = condition["match"]["value"]
        if isinstance(value, bool):
            return self._edge.HasIdCondition(self._with_bool(collection, condition["key"], value))
        return self._edge.FieldCondition(key=condition["key"], match=self._edge.MatchValue(value))

    def _with_bool(self, collection: str, key: str, value: bool) -> set[Any]:
        """Return the points with this bool; the wheel looks for 0 and 1 instead."""
        request = self._edge.ScrollRequest(limit=100_000, with_payload=True, with_vector=False)
        found, _ = self._shards[collection].scroll(request)
        return {record.id for record in found if _at(record.payload, key) is value}


def _at(payload: Any, path: str) -> Any:
    """Return the value at a path like `fields.attributes.name`; None where there is none."""
    for name in path.split("."):
        payload = payload.get(name) if isinstance(payload, dict) else None
    return payload


def matches(condition: Json, record: Record) -> bool:
    """Return whether a filter of ids and equal values, nested or not, lets the record through."""
    point, payload, _ = record
    if "has_id" in condition:
        return point in condition["has_id"]
    if "key" in condition:
        return bool(payload.get(condition["key"]) == condition["match"]["value"])
    must, should = condition.get("must") or [], condition.get("should") or []
    some = not should or any(matches(each, record) for each in should)
    return some and all(matches(each, record) for each in must)
