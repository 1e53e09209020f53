"""Progress: how a long work reports how far it is."""

from collections.abc import Callable

OnProgress = Callable[[int, int], None]  # called with how many are done, and of how many


def ignore_progress(_done: int, _of: int) -> None:
    """Report to nobody."""
