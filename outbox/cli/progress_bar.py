"""The progress of a long command on standard error: a bar on a terminal, elsewhere log lines."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from outbox.escape import escape
from outbox.runtime.output import terminal
from outbox.runtime.progress import OnProgress

log = structlog.get_logger()

LOGGED_SHARE = 0.1  # of the whole, between two lines of the log


@contextmanager
def show_progress(what: str, *, quiet: bool) -> Iterator[OnProgress]:
    """Yield what reports the progress; `quiet` draws no bar on a terminal."""
    console = terminal(error=True)
    if quiet or not console.is_terminal:
        yield _log_progress(what)
        return
    columns = (
        TextColumn(escape(what), markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(what)
        yield lambda done, whole: progress.update(bar, completed=done, total=whole)


def _log_progress(what: str) -> OnProgress:
    logged = 0.0

    def on_progress(done: int, whole: int) -> None:
        nonlocal logged
        if done >= whole * (logged + LOGGED_SHARE):
            logged = done / max(1, whole)
            log.info(what, percent=round(100 * logged), done=done)

    return on_progress
