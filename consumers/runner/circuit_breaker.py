"""Outage: whether a store fails for some keys, or for all."""

from consumers.runner.work_item import QueueKey

KEYS_THAT_MAKE_AN_OUTAGE = 3


class CircuitBreaker:
    """Several keys have failed in a row, and nothing has succeeded between: then one tries for all.

    A key that fails alone waits alone. Without this, thousands of them would each ask a store that
    is down.
    """

    def __init__(self) -> None:
        self._failed: set[QueueKey] = set()

    def __bool__(self) -> bool:
        return len(self._failed) >= KEYS_THAT_MAKE_AN_OUTAGE

    def failed(self, key: QueueKey) -> None:
        """More of them than make an outage tell nothing more."""
        if not self:
            self._failed.add(key)

    def succeeded(self) -> None:
        """Something was applied, or written: the world works."""
        self._failed.clear()
