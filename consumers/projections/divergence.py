"""Divergence: two events that claim the same version of a key. One of them is not what happened.

It cannot come from this platform while its database and its topics are whole: after a restore, one
of them may hold what the other does not. So it is never settled here: the store keeps the event
that it has, nothing more of that key is applied, and an operator sees one line with both digests.

Weakness: a store knows the event of the version that it has now, and not of those before it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from consumers.projections.projection import Change, EventIdentity, StreamKey
from outbox.errors import MessageRejected, Violation

log = structlog.get_logger()


class Divergence(NamedTuple):
    """A change whose version belongs to another event: one in the store, or earlier in the batch.

    `stored` is the identity of that other event.
    """

    change: Change
    stored: EventIdentity


def split_divergent(
    changes: Iterable[Change], stored: Mapping[StreamKey, EventIdentity]
) -> tuple[list[Change], list[Divergence]]:
    """The changes that may be applied, in their order, and the first divergence of each other key.

    `stored` is what the store holds of these keys. No change of a key passes its divergence:
    a consumer that delivers the changes one by one would hold them back, too.
    """
    known = {(stream, identity.version): identity for stream, identity in stored.items()}
    flowing: list[Change] = []
    stopped: dict[StreamKey, Divergence] = {}
    for change in changes:
        if change.stream in stopped:
            continue
        first = known.setdefault((change.stream, change.version), change.identity)
        if first == change.identity:
            flowing.append(change)
        else:
            stopped[change.stream] = Divergence(change, first)
    return flowing, list(stopped.values())


def refuse_divergent(projection: str, divergences: Sequence[Divergence]) -> None:
    """Log each divergence, and raise MessageRejected (`diverged`) that names their keys.

    Does nothing if there is none. Call it once everything else of the batch is durable.
    """
    for divergence in divergences:
        _log_divergence(projection, divergence)
    if divergences:
        raise MessageRejected("diverged", *map(_build_violation, divergences))


def _log_divergence(projection: str, divergence: Divergence) -> None:
    change, stored = divergence
    log.error(
        "diverged: two events claim this version",
        projection=projection,
        aggregate=change.stream.aggregate,
        key=change.stream.key,
        version=change.version,
        event_id=change.event_id,
        digest=change.digest,
        shown_event_id=stored.event_id,
        shown_digest=stored.digest,
    )


def _build_violation(divergence: Divergence) -> Violation:
    stream, version = divergence.change.stream, divergence.change.version
    return Violation("sequence", f"version {version} of {stream.key} must be one event")
