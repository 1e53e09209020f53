"""`python -m bench [--json] [--only NAME] [--quick]`: measure on the embedded stack, as ratios."""

import asyncio
import os
import platform
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from bench import (
    bloat,
    drain,
    drain_kafka,
    drift_check,
    idle,
    latency,
    projection,
    retained,
    takeover,
    visible,
    write,
)
from bench.rig.effort import EFFORTS, Effort
from bench.rig.figure import Figure
from bench.rig.rig import Rig, rigs
from outbox.escape import escape
from outbox.runtime import logs
from outbox.runtime.lifecycle import calm_the_collector, run_command
from outbox.runtime.output import print_table, say_json, terminal

QUESTIONS: dict[str, Callable[[Rig], Awaitable[list[Figure]]]] = {
    "drain": drain.ask,
    "drain_kafka": drain_kafka.ask,
    "latency": latency.ask,
    "idle": idle.ask,
    "write": write.ask,
    "retained": retained.ask,
    "bloat": bloat.ask,
    "projection": projection.ask,
    "visible": visible.ask,
    "drift_check": drift_check.ask,
    "takeover": takeover.ask,
}

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)

Only = Annotated[
    list[str] | None, typer.Option(help=f"One of {', '.join(QUESTIONS)}; may be repeated.")
]


@app.command()
def main(
    only: Only = None,
    quick: Annotated[bool, typer.Option("--quick", help="All in about three minutes.")] = False,
    effort: Annotated[str, typer.Option(help=f"One of {', '.join(EFFORTS)}.")] = "full",
    messages: Annotated[int | None, typer.Option(min=1_000, max=10_000_000)] = None,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Ask each question, and print its figures beside what they are held against."""
    names = only or list(QUESTIONS)
    for unknown in set(names) - QUESTIONS.keys():
        raise typer.BadParameter(f"--only {escape(unknown)}: must be one of {', '.join(QUESTIONS)}")
    if effort not in EFFORTS:
        raise typer.BadParameter(f"--effort {escape(effort)}: must be one of {', '.join(EFFORTS)}")
    chosen = EFFORTS["quick" if quick else effort]
    if messages is not None:
        chosen = replace(chosen, messages=messages)
    logs.configure("console", "warning")
    calm_the_collector()  # every role does that
    found = asyncio.run(_ask_all(terminal(error=json), names, chosen))
    if json:
        say_json(found | {"environment": _describe_machine()})


async def _ask_all(console: Console, names: list[str], effort: Effort) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    async with rigs(effort) as rig:
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("bench", total=len(names))
            for name in names:
                progress.update(task, description=name)
                figures = await QUESTIONS[name](rig)
                _print(name, figures, progress.console)
                found |= {figure.key: figure.value for figure in figures}
                progress.advance(task)
    return found


def _print(name: str, figures: list[Figure], console: Console) -> None:
    rows = [(figure.key, _format(figure), figure.against) for figure in figures]
    columns = (name.replace("_", " "), "figure", "against")
    print_table(columns, rows, error=console.stderr, console=console)


def _format(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:,.2f} {figure.unit}"


def _describe_machine() -> dict[str, str | int | None]:
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


if __name__ == "__main__":
    run_command(app)
