"""Divergence: two events that claim the same version of a key. One of them is not what happened.

It cannot come from this platform while its database and its topics are whole: after a restore the
one may hold what the other does not. So it is never settled here: the store keeps what it shows,
the key stops, and a person sees one line with both digests.

Weakness: a store knows the event of the version that it shows, and not of those before it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from consumers.projections.projection import Change, EventIdentity, StreamKey
from outbox.errors import MessageRejected, Violation

log = structlog.get_logger()


class Divergence(NamedTuple):
    """A change whose version is another event's: one in the store, or earlier in the batch."""

    change: Change
    shown: EventIdentity


def split_divergent(
    changes: Iterable[Change], shown: Mapping[StreamKey, EventIdentity]
) -> tuple[list[Change], list[Divergence]]:
    """Those that may be applied, and what each diverging key stops at, in the order of arrival.

    `shown` is what the store shows of these keys. Nothing of a key follows its divergence: the one
    who delivers them singly would hold them back, too.
    """
    known = {(stream, identity.version): identity for stream, identity in shown.items()}
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
    """Log each, and raise MessageRejected `diverged` that names their keys; nothing if none.

    To be called once everything else of the batch is durable.
    """
    for divergence in divergences:
        _report(projection, divergence)
    if divergences:
        raise MessageRejected("diverged", *map(_violation, divergences))


def _report(projection: str, divergence: Divergence) -> None:
    change, shown = divergence
    log.error(
        "diverged: two events claim this version",
        projection=projection,
        aggregate=change.stream.aggregate,
        key=change.stream.key,
        version=change.version,
        event_id=change.event_id,
        digest=change.digest,
        shown_event_id=shown.event_id,
        shown_digest=shown.digest,
    )


def _violation(divergence: Divergence) -> Violation:
    stream, version = divergence.change.stream, divergence.change.version
    return Violation("sequence", f"version {version} of {stream.key} must be one event")
