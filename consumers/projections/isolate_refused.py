"""One refused change must not keep the others of its batch out of a store."""

from collections.abc import Callable, Sequence

from consumers.projections.projection import Change, Projection
from outbox.errors import MessageRejected

OnRefused = Callable[[Change, MessageRejected], None]


async def apply_all_but_refused(
    projection: Projection, changes: Sequence[Change], on_refused: OnRefused
) -> int:
    """Apply all changes at once; where the store refuses one of them, apply them one by one.

    Returns how many were applied, and calls `on_refused` for each of the others. Raises
    DependencyDown where the store is away.
    """
    try:
        await projection.apply(changes)
        return len(changes)
    except MessageRejected as refusal:
        if len(changes) == 1:
            on_refused(changes[0], refusal)
            return 0
    return sum([await apply_all_but_refused(projection, [each], on_refused) for each in changes])
