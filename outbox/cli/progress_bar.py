"""How far a long command is: a bar on a terminal, lines of log elsewhere; on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from outbox.escape import escape
from outbox.runtime.output import terminal

log = structlog.get_logger()

LOGGED_SHARE = 0.1

OnProgress = Callable[[int, int], None]


@contextmanager
def show_progress(what: str, *, quiet: bool) -> Iterator[OnProgress]:
    """Tell it how many are done, of how many; `quiet` says nothing to a terminal."""
    console = terminal(error=True)
    if quiet or not console.is_terminal:
        yield _logged(what)
        return
    columns = (
        TextColumn(escape(what), markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as shown:
        bar = shown.add_task(what)
        yield lambda done, whole: shown.update(bar, completed=done, total=whole)


def _logged(what: str) -> OnProgress:
    logged = 0.0

    def on_progress(done: int, whole: int) -> None:
        nonlocal logged
        if done >= whole * (logged + LOGGED_SHARE):
            logged = done / max(1, whole)
            log.info(what, percent=round(100 * logged), done=done)

    return on_progress
