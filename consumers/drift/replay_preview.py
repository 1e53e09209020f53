"""ReplayPreview: what a replay would change in a store, without a message sent.

The store is asked for each selected key, and what it shows is compared with the head; then with
the highest version that the replay would bring. Nothing else changes: older ones are fenced off.
Weakness: keys that the store shows and that have no head are drift's to find, not a replay's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import psycopg

from consumers.projections.projection import Entry, Projection, StreamKey
from outbox.streams.difference import Difference, compare
from outbox.streams.heads import read_heads_of

KEYS_AT_ONCE = 500
SHOWN_KEYS = 100

Brings = Mapping[StreamKey, int]


@dataclass(slots=True)
class StoreDifference:
    """Of the selected keys, which the store does not show at their head, and what a replay does.

    `mended`: the replay brings the head's version. `moved`: a newer version than is shown, but not
    the head's. `left`: nothing, because the store shows as new a version, or a wrong one.
    """

    store: str
    keys: int = 0
    missing: int = 0
    stale: int = 0
    different: int = 0
    mended: int = 0
    moved: int = 0
    left: int = 0
    some: list[str] = field(default_factory=list)

    def add(self, heads: Sequence[Entry], shown: Mapping[StreamKey, Entry], brings: Brings) -> None:
        """Some keys more; `brings` is the highest selected version of each."""
        difference = compare(heads, (shown[h.stream] for h in heads if h.stream in shown))
        versions = {head.stream: head.version for head in heads}
        self.keys += len(heads)
        self.missing += len(difference.missing)
        self.stale += len(difference.stale)
        self.different += len(difference.different)
        for stream in _behind(difference):
            self._judge(shown.get(stream), versions[stream], brings[stream])
        told = [stream.key for stream in (*_behind(difference), *difference.different)]
        self.some += told[: SHOWN_KEYS - len(self.some)]
        self.left += len(difference.different)

    def _judge(self, entry: Entry | None, head: int, brings: int) -> None:
        if brings >= head:
            self.mended += 1
        elif brings > (entry.version if entry else 0):
            self.moved += 1
        else:
            self.left += 1


async def find_difference(
    connection: psycopg.AsyncConnection[Any], projection: Projection, selected: Brings
) -> StoreDifference:
    """What the store lacks of these keys; DependencyDown where it cannot be asked."""
    found = StoreDifference(projection.name)
    own = sorted(stream for stream in selected if stream.aggregate in projection.aggregates)
    for some in _parts(own, KEYS_AT_ONCE):
        shown = await projection.versions(some)  # first, so that it cannot be ahead of the heads
        heads = await read_heads_of(connection, some)
        found.add(list(heads.values()), shown, selected)
    return found


def _behind(difference: Difference) -> list[StreamKey]:
    return [*difference.missing, *difference.stale]


def _parts(streams: Iterable[StreamKey], size: int) -> Iterator[list[StreamKey]]:
    left = iter(streams)
    while part := list(islice(left, size)):
        yield part
