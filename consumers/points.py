"""What a point of a projection is: its id, its payload, and the fence around its version.

Nothing here talks to a server. The payload keeps our own names at the top and what the caller
describes under `fields`, so that they cannot collide.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid5

import orjson
from qdrant_client import models

from consumers.projection import Change, Entry, Stamp, StreamKey
from outbox.errors import rejected
from schemas.envelope import digest

Payload = dict[str, Any]
Vector = list[float]

MAX_VERSION = 2**53
SHOWN = ["aggregate", "key", "version", "digest", "deleted"]
LIVE = models.Filter(
    must=[models.FieldCondition(key="deleted", match=models.MatchValue(value=False))]
)

_NAMESPACE = UUID("5c75b895-8be5-49ec-ae29-0136bf1d97bd")


@dataclass(frozen=True, slots=True)
class Document:
    """What of a change is searched by meaning (`text`), and what is filtered by or shown."""

    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    content_hash: str = field(init=False)  # asked for some five times in an apply

    def __post_init__(self) -> None:
        object.__setattr__(self, "content_hash", digest(self.text.encode()))


@lru_cache(maxsize=4096)  # asked for three times in an apply
def point_id(stream: StreamKey) -> str:
    """The id of a key's point: the same everywhere and for ever."""
    return str(uuid5(_NAMESPACE, f"{stream.aggregate}\n{stream.key}"))


def point_ids(streams: Iterable[StreamKey]) -> list[str]:
    return [point_id(stream) for stream in streams]


def point(change: Change, vector: Vector, more: Mapping[str, Any]) -> models.PointStruct:
    """The point of a change; `more` joins our own names in its payload.

    MessageRejected where Qdrant would change a value of it without a word.
    """
    payload = {**own_payload(change), **more}
    check_integers(more.get("fields", {}))
    return models.PointStruct(id=point_id(change.stream), vector=vector, payload=payload)


def tombstone(change: Change, dimension: int, fields: Mapping[str, Any]) -> models.PointStruct:
    """The point of a delete. It must have a vector, so that a search must leave it out."""
    return point(change, [1.0] + [0.0] * (dimension - 1), {"fields": dict(fields)})


def newer_than(changes: Iterable[Change], shown: Mapping[StreamKey, Stamp]) -> list[Change]:
    """The changes above what was shown a moment ago. It only saves work: the fence decides."""
    return [c for c in changes if c.stream not in shown or c.version > shown[c.stream].version]


def own_payload(change: Change) -> Payload:
    if change.version > MAX_VERSION:
        raise rejected("refused-by-store", "sequence", "must be at most 2**53")
    return {
        "aggregate": change.stream.aggregate,
        "key": change.stream.key,
        "version": change.version,
        "event_id": change.event_id,
        "digest": change.digest,
        "deleted": change.deleted,
    }


def check_integers(fields: Mapping[str, Any]) -> None:
    """MessageRejected where one has more than 64 bits: Qdrant makes a float of it.

    orjson refuses the same integers, and looks at all of them in the time of one here.
    """
    try:
        orjson.dumps(fields)
    except orjson.JSONEncodeError:
        rule = "must be JSON whose integers have at most 64 bits"
        raise rejected("refused-by-store", "fields", rule) from None


def fenced(points: Iterable[models.PointStruct]) -> list[models.UpsertOperation]:
    """One operation a version: its filter lets only points below that version be replaced."""
    groups: dict[int, list[models.PointStruct]] = defaultdict(list)
    for point in points:
        groups[(point.payload or {})["version"]].append(point)
    return [_upsert(version, group) for version, group in groups.items()]


def _upsert(version: int, points: list[models.PointStruct]) -> models.UpsertOperation:
    below = models.FieldCondition(key="version", range=models.Range(lt=version))
    fence = models.Filter(must=[below])
    return models.UpsertOperation(upsert=models.PointsList(points=points, update_filter=fence))


def exactly(entries: Iterable[Entry]) -> models.Filter:
    """The points that show just these; their ids come first, so that no other is looked at."""
    entries = list(entries)
    ids = models.HasIdCondition(has_id=[point_id(entry.stream) for entry in entries])
    return models.Filter(must=[ids], should=[_exactly(entry) for entry in entries])


def _exactly(entry: Entry) -> models.Filter:
    return models.Filter(
        must=[
            models.HasIdCondition(has_id=[point_id(entry.stream)]),
            _equals("version", entry.version),
            _equals("digest", entry.digest),
            _equals("deleted", entry.deleted),
        ]
    )


def _equals(key: str, value: str | int | bool) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def stream_of(payload: Payload) -> StreamKey:
    return StreamKey(payload["aggregate"], payload["key"])


def entry_of(payload: Payload) -> Entry:
    return Entry(stream_of(payload), payload["version"], payload["digest"], payload["deleted"])


def stamps(records: Iterable[models.Record]) -> dict[StreamKey, Stamp]:
    """What the points show, by key."""
    payloads = [record.payload or {} for record in records]
    return {stream_of(p): Stamp(p["version"], p["event_id"], p["digest"]) for p in payloads}
