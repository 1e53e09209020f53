"""Wait: until the store itself shows a version; and why it does not, where it does not.

It is the store that is asked, not the consumer: what is shown here is shown to whoever reads the
store next. Neo4j's replicas may lag behind, see consumers/neo4j.py.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from consumers.projection import Entry, Projection, StreamKey
from outbox.errors import OutboxError
from outbox.pace import Pace

REST_SECONDS = 0.25
LOOK_SECONDS = 2.0  # what a store has for an answer, at least


@dataclass(slots=True)
class Waited:
    """`left` are the versions that the store does not show; `shown` is what it showed last.

    `down` says why its last answer did not come, and then `shown` is older than that.
    """

    left: dict[StreamKey, int]
    shown: dict[StreamKey, Entry] = field(default_factory=dict)
    down: str | None = None


async def wait_for(
    projection: Projection, wanted: Mapping[StreamKey, int], within_seconds: float
) -> Waited:
    """Return once the store shows at least these versions, deletes included, or time is up.

    It looks at least once, and then ever more rarely, four times a second at last. A store that is
    down, or cannot serve, is asked again until the time is up; nothing is raised for it.
    """
    until = monotonic() + within_seconds
    waited, pace = Waited(dict(wanted)), Pace(REST_SECONDS)
    while True:
        await _look(projection, waited, max(LOOK_SECONDS, until - monotonic()))
        left = until - monotonic()
        if not waited.left or left <= 0:
            return waited
        await asyncio.sleep(min(left, pace.after(work=False)))


async def _look(projection: Projection, waited: Waited, within_seconds: float) -> None:
    waited.down = f"no answer within {within_seconds:.0f} s"
    with suppress(TimeoutError):
        try:
            async with asyncio.timeout(within_seconds):
                entries = await projection.versions(list(waited.left))
        except OutboxError as error:
            waited.down = str(error)
            return
        waited.down = None
        waited.shown.update(entries)
        for stream, entry in entries.items():
            if entry.version >= waited.left[stream]:
                del waited.left[stream]
