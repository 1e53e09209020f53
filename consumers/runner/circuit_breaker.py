"""CircuitBreaker: tells whether a store fails for single keys or for all of them."""

from consumers.runner.work_item import QueueKey

KEYS_THAT_OPEN = 3


class CircuitBreaker:
    """It is open once several keys have failed in a row with no success between them.

    While it is open, the caller lets one message at a time try the store on behalf of all keys;
    otherwise thousands of keys would each call a store that is down. A key that fails alone does
    not open it and waits alone.
    """

    def __init__(self) -> None:
        self._failed: set[QueueKey] = set()

    @property
    def is_open(self) -> bool:
        """Whether enough different keys have failed since the last success."""
        return len(self._failed) >= KEYS_THAT_OPEN

    def record_failure(self, key: QueueKey) -> None:
        """Count a dependency failure of this key; an open breaker counts no more keys."""
        if not self.is_open:
            self._failed.add(key)

    def record_success(self) -> None:
        """Close the breaker: something was applied, or written as a dead letter."""
        self._failed.clear()
