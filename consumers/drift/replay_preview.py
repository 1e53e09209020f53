"""Replay preview: what a replay would change in a store. No message is sent.

The stored entry of each selected key is compared with the head, and then with the highest version
that the replay would bring. Lower versions would change nothing: the store is fenced.

Weakness: it does not find keys that the store has and that have no head; a drift check does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from consumers.projections.projection import Entry, Projection, StreamKey
from outbox.runtime.pages import paginate
from outbox.streams.difference import Difference, compare
from outbox.streams.heads import read_heads_of

KEYS_AT_ONCE = 500
SHOWN_KEYS = 100

Brings = Mapping[StreamKey, int]


@dataclass(slots=True)
class StoreDifference:
    """How many of the selected keys differ from their heads, and what a replay would do for them.

    `mended`: the replay brings the head's version. `moved`: it brings a newer version than the
    stored one, but not the head's. `left`: it changes nothing, because the stored version is as
    new, or because the stored entry is wrong. `some` names the first SHOWN_KEYS keys that differ.
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

    def add(
        self, heads: Sequence[Entry], stored: Mapping[StreamKey, Entry], brings: Brings
    ) -> None:
        """Count these keys, too; `brings` has the highest selected version of each."""
        difference = compare(heads, (stored[h.stream] for h in heads if h.stream in stored))
        versions = {head.stream: head.version for head in heads}
        self.keys += len(heads)
        self.missing += len(difference.missing)
        self.stale += len(difference.stale)
        self.different += len(difference.different)
        for stream in _list_behind(difference):
            self._count_effect(stored.get(stream), versions[stream], brings[stream])
        named = [stream.key for stream in (*_list_behind(difference), *difference.different)]
        self.some += named[: SHOWN_KEYS - len(self.some)]
        self.left += len(difference.different)

    def _count_effect(self, entry: Entry | None, head: int, brings: int) -> None:
        if brings >= head:
            self.mended += 1
        elif brings > (entry.version if entry else 0):
            self.moved += 1
        else:
            self.left += 1


async def find_difference(
    connection: psycopg.AsyncConnection[Any], projection: Projection, selected: Brings
) -> StoreDifference:
    """Compare these keys with the store; DependencyDown where it cannot be read."""
    found = StoreDifference(projection.name)
    own = sorted(stream for stream in selected if stream.aggregate in projection.aggregates)
    for page in paginate(own, KEYS_AT_ONCE):
        stored = await projection.versions(page)  # first, so that it cannot be ahead of the heads
        heads = await read_heads_of(connection, page)
        found.add(list(heads.values()), stored, selected)
    return found


def _list_behind(difference: Difference) -> list[StreamKey]:
    return [*difference.missing, *difference.stale]
