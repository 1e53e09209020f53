"""Suspects: keys that differed at first sight, looked at again until it is certain why.

While writers go on, most of them are only late. A look reads the store first and the heads after
it, so that the store cannot be ahead of the heads. What it then shows without a head, at the head's
version with another content, or above the head, is wrong for certain: heads never go, and a store
does not change a version that it has. What is missing or stale may still be under way, and is so
until it shows at least the version that was missed at first, or the patience has run out.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum
from itertools import chain, repeat
from time import monotonic
from typing import Any

import psycopg

from consumers.drift.sorted_spool import SortedSpool, paginate, read_pairs, row_of_pair
from consumers.projections.projection import Projection
from outbox.streams.difference import DifferenceKind, Pair
from outbox.streams.heads import StreamKey, read_heads_of

PAGE_KEYS = 1_000
WAITS_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5)
LONGEST_WAIT_SECONDS = 1.0

Connection = psycopg.AsyncConnection[Any]


class Verdict(Enum):
    """What a look says of a suspect."""

    SETTLED = "settled"
    CERTAIN = "certain"
    UNDER_WAY = "under way"


async def read_pairs_now(
    connection: Connection, projection: Projection, streams: Sequence[StreamKey]
) -> dict[StreamKey, Pair]:
    """What both sides say of these keys now, the store first."""
    shown = await projection.versions(streams)
    heads = await read_heads_of(connection, streams)
    return {stream: Pair(heads.get(stream), shown.get(stream)) for stream in streams}


def judge_candidate(suspected: Pair, now: Pair) -> Verdict:
    """A key whose head moved on meanwhile is judged by its new head; see the module.

    It is only late where the store has reached the head that it was suspected for.
    """
    if now.kind is None:
        return Verdict.SETTLED
    if now.kind in (DifferenceKind.ORPHANED, DifferenceKind.DIFFERENT):
        return Verdict.CERTAIN
    missed = suspected.head or now.head
    if now.stored and missed and now.stored.version >= missed.version:
        return Verdict.SETTLED
    return Verdict.UNDER_WAY


class Recheck:
    """Looks at suspects again and again; keeps in `found`, and counts, what is certain."""

    def __init__(self, connection: Connection, projection: Projection, found: SortedSpool) -> None:
        self.counts = Counter(dict.fromkeys(DifferenceKind, 0))
        self._connection = connection
        self._projection = projection
        self._found = found

    async def settle(self, suspects: SortedSpool, patience_seconds: float) -> None:
        """Return once each is certain or settled; after the patience, what still differs is."""
        deadline = monotonic() + patience_seconds
        with ExitStack() as exits:
            for wait in chain(WAITS_SECONDS, repeat(LONGEST_WAIT_SECONDS)):
                left = deadline - monotonic()
                waiting = exits.enter_context(suspects.sibling())
                await self._look_again(suspects, waiting, patient=left > 0)
                if not waiting.rows:
                    return
                suspects.close()
                suspects = waiting
                await asyncio.sleep(min(wait, max(0.0, left)))

    async def _look_again(
        self, suspects: SortedSpool, waiting: SortedSpool, *, patient: bool
    ) -> None:
        """Those that are still under way wait, and keep the head that they were suspected for."""
        for page in paginate(read_pairs(suspects), PAGE_KEYS):
            now = await read_pairs_now(self._connection, self._projection, [p.stream for p in page])
            for suspected in page:
                self._judge(suspected, now[suspected.stream], waiting, patient=patient)

    def _judge(self, suspected: Pair, now: Pair, waiting: SortedSpool, *, patient: bool) -> None:
        verdict = judge_candidate(suspected, now)
        if verdict is Verdict.UNDER_WAY and patient:
            waiting.add(row_of_pair(Pair(suspected.head or now.head, now.stored)))
        elif verdict is not Verdict.SETTLED and now.kind is not None:
            self.counts[now.kind] += 1
            self._found.add(row_of_pair(now))
