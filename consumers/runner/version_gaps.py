"""Gaps: a version of a key that never came, seen when a later one does.

State events apply all the same: the later one carries the whole state. But versions have no gaps
by themselves, so something was lost on the way here, and a person should know.
"""

from collections import OrderedDict
from collections.abc import Iterable

import structlog

from consumers.runner.work_item import WorkItem
from schemas.envelope import Envelope

log = structlog.get_logger()


class VersionGaps:
    """Remembers the highest version of the `keys` keys that changed last.

    Weakness: what is not remembered, after a restart or because too many other keys changed since,
    has no gap. Drift sees every one.
    """

    def __init__(self, consumer: str, keys: int) -> None:
        self._keys = keys
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._log = log.bind(consumer=consumer)

    def saw(self, tasks: Iterable[WorkItem]) -> int:
        """How many of these, in the order of each key, come after a gap; each is logged."""
        return sum(map(self._comes_after_gap, tasks))

    def _comes_after_gap(self, task: WorkItem) -> bool:
        envelope = task.content
        if not isinstance(envelope, Envelope) or envelope.sequence is None or task.stream is None:
            return False
        known = self._versions.pop(task.stream, None)
        self._versions[task.stream] = max(envelope.sequence, known or 0)
        if len(self._versions) > self._keys:
            self._versions.popitem(last=False)
        if known is None or envelope.sequence <= known + 1:
            return False
        self._log.warning(
            "versions are missing", stream=task.stream, after=known, before=envelope.sequence
        )
        return True
