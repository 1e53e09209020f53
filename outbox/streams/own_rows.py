"""Own rows: what a service says of its own tables, compared with the stream heads.

A projection's check compares a store with the heads. That the service's rows are what the heads say
is another question, and only the service knows its tables. One that offers the answer is an
OwnRows; `python -m consumers drift check` asks it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg

from outbox.streams.difference import DifferenceKind
from outbox.streams.heads import StreamKey

Connection = psycopg.AsyncConnection[Any]


@dataclass(slots=True)
class RowDifference:
    """How many rows and live heads were compared, and which keys differ.

    missing: a live head without its row. orphaned: a row without a live head. different: a row that
    is not what its key's latest event says. Counts are exact; of each kind at most `named` keys are
    kept, the first ones.
    """

    named: int
    rows: int = 0
    heads: int = 0
    counts: Counter[DifferenceKind] = field(default_factory=Counter)
    found: dict[DifferenceKind, list[StreamKey]] = field(default_factory=dict)

    @property
    def keys(self) -> int:
        """How many keys differ."""
        return sum(self.counts.values())

    def add(self, kind: DifferenceKind, stream: StreamKey) -> None:
        self.counts[kind] += 1
        streams = self.found.setdefault(kind, [])
        if len(streams) < self.named:
            streams.append(stream)

    def of(self, kind: DifferenceKind) -> Sequence[StreamKey]:
        return self.found.get(kind, ())


class OwnRows(Protocol):
    """A service's tables."""

    name: str

    async def compare(self, connection: Connection, named: int) -> RowDifference:
        """All of them with the heads, also while writers go on; `connection` is in autocommit."""
