"""`python -m bench [--json] [--messages N]`: measure on the embedded stack; figures as ratios."""

import asyncio
import json as json_module
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.drain import Drain, measure
from outbox import logs
from stack.machine import Machine, machine


def main(
    messages: Annotated[int, typer.Option(min=1_000, max=10_000_000)] = 100_000,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Drain a backlog and compare with what its two ends can do alone."""
    logs.configure("console", "warning")
    asyncio.run(_run(messages, as_json=json))


async def _run(messages: int, *, as_json: bool) -> None:
    console = Console(stderr=as_json)
    async with machine() as running:
        drain = await measure(running, messages)
        console.print(_table(drain, messages, running))
    if as_json:
        typer.echo(json_module.dumps({"messages": messages} | asdict(drain)))


def _table(drain: Drain, messages: int, running: Machine) -> Table:
    caption = f"{running.postgres.provider}; {running.kafka.provider}"
    table = Table("drain", "messages/s", title=f"{messages:,} messages", caption=caption)
    for row in drain.rows():
        table.add_row(*row)
    return table


if __name__ == "__main__":
    typer.run(main)
