"""VersionGaps: notices that a version of a key never came, as soon as a later version does.

A state event is applied all the same, because the later one carries the whole state. But a key's
versions have no gaps by themselves, so a message was lost on the way, and an operator should know.
"""

from collections import OrderedDict
from collections.abc import Iterable

import structlog

from consumers.runner.work_item import WorkItem
from schemas.envelope import Envelope

log = structlog.get_logger()


class VersionGaps:
    """Remembers the highest version of the `keys` keys that changed last.

    Weakness: it sees no gap of a key that it does not remember, after a restart or because too many
    other keys have changed since. A drift check sees every gap.
    """

    def __init__(self, consumer: str, keys: int) -> None:
        self._keys = keys
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._log = log.bind(consumer=consumer)

    def count_gaps(self, items: Iterable[WorkItem]) -> int:
        """Return how many of these come after a gap, and log each gap.

        The items of a key must be in their order.
        """
        return sum(map(self._comes_after_gap, items))

    def _comes_after_gap(self, item: WorkItem) -> bool:
        envelope = item.content
        if not isinstance(envelope, Envelope) or envelope.sequence is None or item.stream is None:
            return False
        known = self._versions.pop(item.stream, None)
        self._versions[item.stream] = max(envelope.sequence, known or 0)
        if len(self._versions) > self._keys:
            self._versions.popitem(last=False)
        if known is None or envelope.sequence <= known + 1:
            return False
        self._log.warning(
            "versions are missing", stream=item.stream, after=known, before=envelope.sequence
        )
        return True
