"""Progress: how far the relay has published, and the one statement that moves it on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from outbox.cursor.cut import Snapshot
from outbox.cursor.lease import Lease, read_guarded
from outbox.cursor.relay_row import require_relay_row
from outbox.kafka import Delivery
from outbox.runtime.failpoints import Failpoint, failpoint, while_waiting

ADVANCE = read_guarded(__file__, "advance")
READ = "SELECT cursor::text, upto::text, position FROM outbox.relay WHERE name = 'main'"


@dataclass(frozen=True, slots=True)
class Progress:
    """The cursor and, inside a large cut, its newer snapshot and the last position passed.

    `upto` is None outside of a large cut.
    """

    cursor: Snapshot
    upto: Snapshot | None = None
    position: int = 0


async def read_progress(connection: psycopg.AsyncConnection[Any]) -> Progress:
    """Read where the last term stopped. This is reliable only after the lease is taken."""
    row = await (await connection.execute(READ)).fetchone()
    cursor, upto, position = require_relay_row(row)
    return Progress(Snapshot.parse(cursor), Snapshot.parse(upto) if upto else None, position)


async def advance(
    connection: psycopg.AsyncConnection[Any],
    lease: Lease,
    progress: Progress,
    deliveries: Sequence[Delivery],
) -> None:
    """Record the progress and the deliveries, and extend the lease.

    It raises LeaseLost where the term is over; nothing is recorded then.
    """
    advancing = lease.write(connection, ADVANCE, _build_parameters(progress, deliveries))
    await while_waiting(Failpoint.PROGRESS_SENT, advancing)
    failpoint(Failpoint.PROGRESS_KEPT)


def _build_parameters(progress: Progress, deliveries: Sequence[Delivery]) -> dict[str, Any]:
    return {
        "cursor": progress.cursor.text,
        "upto": progress.upto.text if progress.upto else None,
        "position": progress.position,
        "messages": sum(d.messages for d in deliveries),
        "topics": [d.topic for d in deliveries],
        "partitions": [d.partition for d in deliveries],
        "first_offsets": [d.first_offset for d in deliveries],
        "last_offsets": [d.last_offset for d in deliveries],
        "first_positions": [d.first_position for d in deliveries],
        "last_positions": [d.last_position for d in deliveries],
        "counts": [d.messages for d in deliveries],
    }
