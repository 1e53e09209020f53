"""Own rows: the protocol by which a service compares its own tables with the stream heads.

The check of a projection compares a store with the heads. Whether the service's own rows are what
the heads say is another question, and only the service knows its tables. A service that can answer
it has an OwnRows, and `python -m consumers drift check` calls that.
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
    is not what its key's latest event says. The counts are exact. Of each kind, only the first
    `named` keys are stored.
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
        """Count the key, and store it unless there are enough of its kind."""
        self.counts[kind] += 1
        streams = self.found.setdefault(kind, [])
        if len(streams) < self.named:
            streams.append(stream)

    def of(self, kind: DifferenceKind) -> Sequence[StreamKey]:
        """Return the stored keys of that kind: the first ones, and not all of them."""
        return self.found.get(kind, ())


class OwnRows(Protocol):
    """The tables of a service, which it can compare with the heads."""

    name: str

    async def compare(self, connection: Connection, named: int) -> RowDifference:
        """Compare all rows with the heads, even while writers go on.

        `connection` is in autocommit. Of each kind, the first `named` keys are returned.
        """
