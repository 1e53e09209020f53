"""Report: what the demo prints: progress bars (on no terminal, log lines), and tables."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from outbox.runtime.output import print_table, say, say_json, terminal
from services.catalog.search import Hit

log = structlog.get_logger()

BARS = ("commands", "commits", "published", "embedded", "graphed")
LOGGED_SHARE = 0.1


class Steps:
    """How far each part is. Each command ends in a commit and two messages: effect and answer."""

    def __init__(self, commands: int, progress: Progress, *, terminal: bool) -> None:
        # The catalog is in the graph, and it is no item that is embedded: so there is one less.
        totals = (commands, commands, 2 * commands, commands - 1, commands)
        self._totals = dict(zip(BARS, totals, strict=True))
        self._reached = dict.fromkeys(BARS, 0)
        self._progress = progress
        self._terminal = terminal
        self._logged = 0.0
        self._bars: dict[str, TaskID] = {
            name: progress.add_task(name, total=total) for name, total in self._totals.items()
        }

    @property
    def done(self) -> bool:
        return all(self._reached[name] >= self._totals[name] for name in BARS)

    def add_sent(self, commands: int) -> None:
        self._reach("commands", self._reached["commands"] + commands)

    def show(self, committed: int, published: int, embedded: int, graphed: int) -> None:
        """Move the bars to these counts; where there is no terminal, log every tenth of the way."""
        reached = (committed, published, embedded, graphed)
        for name, value in zip(BARS[1:], reached, strict=True):
            self._reach(name, value)
        self._log()

    def _reach(self, name: str, value: int) -> None:
        self._reached[name] = value
        self._progress.update(self._bars[name], completed=value)

    def _log(self) -> None:
        share = sum(self._reached.values()) / sum(self._totals.values())
        if not self._terminal and share >= self._logged + LOGGED_SHARE:
            self._logged = share
            log.info("progress", percent=round(100 * share), **self._reached)


class Report:
    """Prints for an operator.

    With `as_json` that goes to standard error, and standard output has the summary as its last
    line.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = terminal(error=as_json)

    def providers(self, lines: Sequence[str]) -> None:
        say(*lines, error=self._as_json)

    @contextmanager
    def progress(self, commands: int) -> Iterator[Steps]:
        columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn())
        terminal = self._console.is_terminal
        with Progress(*columns, console=self._console, disable=not terminal) as progress:
            yield Steps(commands, progress, terminal=terminal)

    def comparison(self, summary: Mapping[str, float]) -> None:
        """Print what each store holds, as a table, and what went through Kafka, as a line."""
        columns = ("store", "live items", "tombstones", "keys that differ")
        rows = [
            ("PostgreSQL", *_cells(summary, "live_items", "deleted_items"), "-"),
            ("Qdrant", *_cells(summary, "qdrant_points", "qdrant_tombstones", "drift_qdrant")),
            ("graph", *_cells(summary, "graph_nodes", "graph_tombstones", "drift_graph")),
        ]
        print_table(columns, rows, title="Comparison", error=self._as_json)
        line = "{commands:,} commands; {committed:,} messages committed, {published:,} in Kafka"
        seconds = f"({summary['seconds']} s)"
        say(f"{line.format_map(summary)} {seconds}", error=self._as_json)

    def hits(self, question: str, hits: Sequence[Hit]) -> None:
        rows = [
            (f"{hit.score:.3f}", hit.item_id, hit.name, *_place(hit.attributes)) for hit in hits
        ]
        columns = ("score", "id", "name", "city", "state")
        print_table(columns, rows, title=f"“{question}”", error=self._as_json)

    def summary(self, summary: Mapping[str, float]) -> None:
        if self._as_json:
            say_json(summary)

    def waiting(self, url: str) -> None:
        line = f"HTTP at {url}, its OpenAPI page at {url}/docs; Ctrl-C ends it."
        say(line, error=self._as_json)


def _place(attributes: Mapping[str, object]) -> tuple[object, object]:
    return attributes["city"], attributes["state"]


def _cells(summary: Mapping[str, float], *names: str) -> list[str]:
    return [f"{summary[name]:,}" for name in names]
