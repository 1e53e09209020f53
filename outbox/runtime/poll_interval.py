"""Pace: how long to wait before looking again."""

FIRST_SECONDS = 0.0005


class PollInterval:
    """Not at all while there is work; then twice as long each time, up to the rest.

    So a busy relay answers within a millisecond or two, a resting one costs next to nothing, and
    the first message after a rest waits for at most `rest_seconds`.
    """

    def __init__(self, rest_seconds: float) -> None:
        self._rest = rest_seconds
        self._next = FIRST_SECONDS

    def after(self, *, work: bool) -> float:
        """Seconds to wait, given whether the last look found work."""
        if work:
            self._next = FIRST_SECONDS
            return 0.0
        wait = min(self._next, self._rest)
        self._next = wait * 2
        return wait
