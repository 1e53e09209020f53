"""The one row of outbox.relay, whose name is 'main'.

The first migration inserts it, and nothing of ours deletes it.
"""

from typing import TypeVar

T = TypeVar("T")


def require_relay_row(row: T | None) -> T:
    """Return `row`, which was selected from outbox.relay; raise LookupError where it is None."""
    if row is None:
        raise LookupError("outbox.relay has no row 'main'; was it deleted by hand?")
    return row
