"""PollInterval: how long to wait before looking for work again."""

FIRST_SECONDS = 0.0005


class PollInterval:
    """No wait while there is work; without work twice as long each time, up to `rest_seconds`.

    So a busy relay reacts within a millisecond or two, an idle one costs next to nothing, and the
    first message after a rest waits for at most `rest_seconds`.
    """

    def __init__(self, rest_seconds: float) -> None:
        self._rest = rest_seconds
        self._next = FIRST_SECONDS

    def after(self, *, work: bool) -> float:
        """Return the seconds to wait, given whether the last look found work."""
        if work:
            self._next = FIRST_SECONDS
            return 0.0
        wait = min(self._next, self._rest)
        self._next = wait * 2
        return wait
