"""Recheck: keys that differed at first are looked at again until it is certain why.

While writers go on, the messages of most such candidates are only under way. A look reads the store
first and the heads after it, so that the store cannot be ahead of the heads. An entry without a
head, at the head's version with another content, or above the head, is then certainly wrong: heads
never go, and a store does not change a version that it has. A key that is missing or stale may
still be under way. It counts so until the store has at least the version that was missed at first,
or until the patience has run out.
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

from consumers.drift.sorted_spool import SortedSpool, read_pairs, row_of_pair
from consumers.projections.projection import Projection
from outbox.runtime.pages import paginate
from outbox.streams.difference import DifferenceKind, Pair
from outbox.streams.heads import StreamKey, read_heads_of

PAGE_KEYS = 1_000
WAITS_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5)
LONGEST_WAIT_SECONDS = 1.0

Connection = psycopg.AsyncConnection[Any]


class Verdict(Enum):
    """What a look says of a candidate."""

    SETTLED = "settled"
    CERTAIN = "certain"
    UNDER_WAY = "under way"


async def read_pairs_now(
    connection: Connection, projection: Projection, streams: Sequence[StreamKey]
) -> dict[StreamKey, Pair]:
    """What both sides hold of these keys now; the store is read first."""
    stored = await projection.versions(streams)
    heads = await read_heads_of(connection, streams)
    return {stream: Pair(heads.get(stream), stored.get(stream)) for stream in streams}


def judge_candidate(first: Pair, now: Pair) -> Verdict:
    """Judge a candidate by what both sides hold now; the module has the rules.

    `first` has the head that the store lacked at first. A key whose head has moved on since is
    judged by its new head, and is settled once the store has reached the first one.
    """
    if now.kind is None:
        return Verdict.SETTLED
    if now.kind in (DifferenceKind.ORPHANED, DifferenceKind.DIFFERENT):
        return Verdict.CERTAIN
    missed = first.head or now.head
    if now.stored and missed and now.stored.version >= missed.version:
        return Verdict.SETTLED
    return Verdict.UNDER_WAY


class Recheck:
    """Looks at candidates again and again; certain drift is counted, and added to `differing`."""

    def __init__(
        self, connection: Connection, projection: Projection, differing: SortedSpool
    ) -> None:
        self.counts = Counter(dict.fromkeys(DifferenceKind, 0))
        self._connection = connection
        self._projection = projection
        self._differing = differing

    async def settle(self, candidates: SortedSpool, patience_seconds: float) -> None:
        """Return once each candidate is certain or settled.

        After the patience, every key that still differs counts as certain.
        """
        deadline = monotonic() + patience_seconds
        with ExitStack() as exits:
            for wait in chain(WAITS_SECONDS, repeat(LONGEST_WAIT_SECONDS)):
                left = deadline - monotonic()
                waiting = exits.enter_context(candidates.sibling())
                await self._look_again(candidates, waiting, patient=left > 0)
                if not waiting.rows:
                    return
                candidates.close()
                candidates = waiting
                await asyncio.sleep(min(wait, max(0.0, left)))

    async def _look_again(
        self, candidates: SortedSpool, waiting: SortedSpool, *, patient: bool
    ) -> None:
        """Judge each candidate; those still under way go to `waiting`, with their first head."""
        for page in paginate(read_pairs(candidates), PAGE_KEYS):
            now = await read_pairs_now(self._connection, self._projection, [p.stream for p in page])
            for first in page:
                self._judge(first, now[first.stream], waiting, patient=patient)

    def _judge(self, first: Pair, now: Pair, waiting: SortedSpool, *, patient: bool) -> None:
        verdict = judge_candidate(first, now)
        if verdict is Verdict.UNDER_WAY and patient:
            waiting.add(row_of_pair(Pair(first.head or now.head, now.stored)))
        elif verdict is not Verdict.SETTLED and now.kind is not None:
            self.counts[now.kind] += 1
            self._differing.add(row_of_pair(now))
