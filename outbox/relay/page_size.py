"""PageSize: how much of a cut is sent at once; it follows how fast the broker is."""

from outbox.settings import Settings

STEPS = 64  # successes that lead from the smallest page back to a whole one


class PageSize:
    """The size of a page: half of it after a failure, and one step more after each success.

    It starts at what the settings allow. Without it, a page that takes longer than its deadline
    would be sent again, whole, for ever.
    """

    def __init__(self, settings: Settings) -> None:
        self._most_messages, self._most_bytes = settings.page_messages, settings.page_bytes
        self.messages, self.bytes = self._most_messages, self._most_bytes

    def shrink(self) -> None:
        """Halve the size, because a page was not acknowledged in time."""
        self.messages = max(1, self.messages // 2)
        self.bytes = max(1, self.bytes // 2)

    def grow(self) -> None:
        """Make the size one step larger, because a page was acknowledged."""
        self.messages = _add_step(self.messages, self._most_messages)
        self.bytes = _add_step(self.bytes, self._most_bytes)


def _add_step(size: int, most: int) -> int:
    return min(most, size + max(1, most // STEPS))
