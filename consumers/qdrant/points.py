"""What a point of a projection is: its id, its payload, and the fence around its version.

Nothing here talks to a server. The payload has our own names at the top, and what the caller
describes under `fields`, so that the names cannot collide.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from qdrant_client import models

from consumers.projections.projection import Change, Entry, EventIdentity, StreamKey
from outbox.errors import build_rejection
from outbox.streams.stored_entries import (
    MAX_FLOAT_VERSION,
    ForeignEntry,
    StoredEntry,
    entry_id,
    read_entry_at,
)
from schemas.envelope import digest

Payload = dict[str, Any]
Vector = list[float]

LIVE = models.Filter(
    must=[models.FieldCondition(key="deleted", match=models.MatchValue(value=False))]
)


@dataclass(frozen=True, slots=True)
class Document:
    """What a mapping says of a change.

    `text` is searched by meaning; `fields` are what searches filter by and show.
    """

    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    content_hash: str = field(init=False)  # an apply reads it some five times

    def __post_init__(self) -> None:
        object.__setattr__(self, "content_hash", digest(self.text.encode()))


def point_id(stream: StreamKey) -> str:
    """The id of a key's point, a UUID: the same everywhere and for ever."""
    return entry_id(stream)


def point_ids(streams: Iterable[StreamKey]) -> list[str]:
    """The ids of these keys' points, in the same order."""
    return [point_id(stream) for stream in streams]


def build_point(change: Change, vector: Vector, more: Mapping[str, Any]) -> models.PointStruct:
    """The point of a change; `more` is added to our own names in its payload.

    Raises MessageRejected where Qdrant would change one of its values without saying so.
    """
    payload = {**build_payload(change), **more}
    check_integers(more.get("fields", {}))
    return models.PointStruct(id=point_id(change.stream), vector=vector, payload=payload)


def build_tombstone(
    change: Change, dimension: int, fields: Mapping[str, Any]
) -> models.PointStruct:
    """The point of a delete. It must have a vector, so every search has to filter it out."""
    return build_point(change, [1.0] + [0.0] * (dimension - 1), {"fields": dict(fields)})


def select_newer(
    changes: Iterable[Change], stored: Mapping[StreamKey, EventIdentity]
) -> list[Change]:
    """The changes above what the store held a moment ago.

    This only saves work: the fence decides.
    """
    return [c for c in changes if c.stream not in stored or c.version > stored[c.stream].version]


def build_payload(change: Change) -> Payload:
    """Our own names in a point's payload; MessageRejected where the version is above 2**53."""
    if change.version > MAX_FLOAT_VERSION:
        raise build_rejection("refused-by-store", "sequence", "must be at most 2**53")
    return change.build_entry()


def check_integers(fields: Mapping[str, Any]) -> None:
    """Raise MessageRejected where an integer has more than 64 bits: Qdrant makes a float of it.

    orjson refuses the same integers, and checks all of them in the time that Python takes for one.
    """
    try:
        orjson.dumps(fields)
    except orjson.JSONEncodeError:
        rule = "must be JSON whose integers have at most 64 bits"
        raise build_rejection("refused-by-store", "fields", rule) from None


def fence_by_version(points: Iterable[models.PointStruct]) -> list[models.UpsertOperation]:
    """One operation a version; its filter lets it replace only points below that version."""
    groups: dict[int, list[models.PointStruct]] = defaultdict(list)
    for point in points:
        groups[(point.payload or {})["version"]].append(point)
    return [_upsert_above(version, group) for version, group in groups.items()]


def _upsert_above(version: int, points: list[models.PointStruct]) -> models.UpsertOperation:
    below = models.FieldCondition(key="version", range=models.Range(lt=version))
    fence = models.Filter(must=[below])
    return models.UpsertOperation(upsert=models.PointsList(points=points, update_filter=fence))


def match_exactly(entries: Iterable[Entry]) -> models.Filter:
    """A filter for the points that hold exactly these entries.

    Their ids come first, so that Qdrant looks at no other point.
    """
    entries = list(entries)
    ids = models.HasIdCondition(has_id=[point_id(entry.stream) for entry in entries])
    return models.Filter(must=[ids], should=[_match_entry(entry) for entry in entries])


def _match_entry(entry: Entry) -> models.Filter:
    return models.Filter(
        must=[
            models.HasIdCondition(has_id=[point_id(entry.stream)]),
            _equals("version", entry.version),
            _equals("digest", entry.digest),
            _equals("deleted", entry.deleted),
        ]
    )


def replace_foreign(points: Iterable[models.PointStruct]) -> list[models.UpsertOperation]:
    """One operation a point; each may also replace a foreign entry in its key's place.

    The store itself judges that once more, so that a valid entry which came meanwhile is fenced as
    usual. Weakness: a filter does not recognise every foreign entry (a version of 3.5, a digest
    that is a number). Such an entry stays, and the caller must look again.
    """
    return [_upsert_over_foreign(point) for point in points]


def _upsert_over_foreign(point: models.PointStruct) -> models.UpsertOperation:
    payload = point.payload or {}
    deleted = [_equals("deleted", value) for value in (True, False)]
    ours = models.Filter(
        must=[
            _equals("aggregate", payload["aggregate"]),
            _equals("key", payload["key"]),
            models.FieldCondition(key="version", range=models.Range(gte=1, lte=MAX_FLOAT_VERSION)),
            models.Filter(should=[*deleted]),
        ],
        must_not=[_is_empty("event_id"), _is_empty("digest")],
    )
    below = models.FieldCondition(key="version", range=models.Range(lt=payload["version"]))
    fence = models.Filter(should=[below, models.Filter(must_not=[ours])])
    return models.UpsertOperation(upsert=models.PointsList(points=[point], update_filter=fence))


def _is_empty(key: str) -> models.IsEmptyCondition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))


def _equals(key: str, value: str | int | bool) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def read_point(record: models.Record, aggregates: Container[str]) -> StoredEntry | ForeignEntry:
    """The entry that a point holds: the one place where a projection reads what Qdrant holds."""
    return read_entry_at(str(record.id), record.payload or {}, aggregates, MAX_FLOAT_VERSION)


@dataclass(frozen=True, slots=True)
class ReadPoints:
    """What the store holds under the ids of some keys.

    `identities` and `records` are of the valid entries; `foreign` has the others, by point id.
    """

    identities: Mapping[StreamKey, EventIdentity]
    records: Sequence[models.Record]
    foreign: Mapping[str, ForeignEntry]


def read_points(records: Iterable[models.Record], aggregates: Container[str]) -> ReadPoints:
    """Read the records, and tell valid entries from foreign ones."""
    identities: dict[StreamKey, EventIdentity] = {}
    valid: list[models.Record] = []
    foreign: dict[str, ForeignEntry] = {}
    for record in records:
        read = read_point(record, aggregates)
        if isinstance(read, ForeignEntry):
            foreign[read.place] = read
        else:
            entry = read.entry
            identities[entry.stream] = EventIdentity(entry.version, read.event_id, entry.digest)
            valid.append(record)
    return ReadPoints(identities, valid, foreign)
