"""PageSize: how much of a cut goes out at once, as far as the broker keeps up."""

from outbox.settings import Settings

STEPS = 64  # from next to nothing back to a whole page


class PageSize:
    """Starts at what the settings allow; halved by a failure, a step larger with each success.

    A page that takes longer than its deadline would otherwise be sent again, whole, for ever.
    """

    def __init__(self, settings: Settings) -> None:
        self._most_messages, self._most_bytes = settings.page_messages, settings.page_bytes
        self.messages, self.bytes = self._most_messages, self._most_bytes

    def shrink(self) -> None:
        """A page was not acknowledged in time."""
        self.messages = max(1, self.messages // 2)
        self.bytes = max(1, self.bytes // 2)

    def grow(self) -> None:
        """A page was acknowledged."""
        self.messages = _grown(self.messages, self._most_messages)
        self.bytes = _grown(self.bytes, self._most_bytes)


def _grown(size: int, most: int) -> int:
    return min(most, size + max(1, most // STEPS))
