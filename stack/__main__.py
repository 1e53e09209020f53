"""python -m stack: every part on one machine."""

import asyncio
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from outbox import logs
from outbox.process import run_command
from stack.broker import serve
from stack.errors import StackError
from stack.interrupt import run_until_signal

if TYPE_CHECKING:
    from stack.machine import Machine

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False
)


@app.callback()
def configure() -> None:
    """Logs go to the standard error, so that the standard output is only what was asked for."""
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))


@app.command()
def broker() -> None:
    """Be a mock Kafka broker: prints {"bootstrap": ...}, lives until SIGTERM or its input ends."""
    serve(typer.echo)


@app.command()
def up(
    keep: Annotated[bool, typer.Option(help="Keep the temporary folder.")] = False,
    data: Annotated[Path | None, typer.Option(help="Use this folder, and keep it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
) -> None:
    """Start every part, print its environment (with passwords), and wait until Ctrl-C."""
    try:
        code = run_until_signal(stay_up(data, keep=keep, as_json=as_json))
    except StackError as error:
        typer.echo(f"The machine could not be started. {error}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(code)


@app.command()
def demo(
    once: Annotated[bool, typer.Option(help="Exit after the comparison.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
    limit: Annotated[int | None, typer.Option(min=4, help="Only so many airports.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="For HTTP; 0: a free one.")] = 0,
    keep: Annotated[bool, typer.Option(help="Keep the temporary folder.")] = False,
    data: Annotated[Path | None, typer.Option(help="Use this folder, and keep it.")] = None,
    verbose: Annotated[bool, typer.Option(help="Show the roles' logs.")] = False,
) -> None:
    """Send 3,376 airports through every part, and compare the stores."""
    from stack.demo import DisagreementError, Options, demo  # the broker starts without it
    from stack.report import Report

    logs.configure("console", "info" if verbose else "warning")
    options = Options(once=once, limit=limit, http_port=port, data=data, keep=keep)
    try:
        code = run_until_signal(demo(options, Report(as_json=as_json)))
    except (StackError, DisagreementError) as error:
        typer.echo(f"The demo failed. {error}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(code)


@app.command("drift-drill")
def drift_drill(
    keys: Annotated[int, typer.Option(min=1_000, help="How many items.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Which of them are broken.")] = 1,
    patience: Annotated[float, typer.Option(min=0, help="Seconds; of a check.")] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
    keep: Annotated[bool, typer.Option(help="Keep the temporary folder.")] = False,
    verbose: Annotated[bool, typer.Option(help="Show the roles' logs.")] = False,
) -> None:
    """Break both stores in known ways while writers go on; check, repair, and compare all of it.

    Exit code 1 where a check was not exact, or a repair left or touched what it must not.
    """
    from stack.drill import drill
    from stack.drilled import Options, Outcome, print_outcome

    logs.configure("console", "info" if verbose else "warning")
    options = Options(keys, patience_seconds=patience, seed=seed, keep=keep)
    outcomes: list[Outcome] = []

    async def drilled() -> None:
        outcomes.append(await drill(options, lambda line: typer.echo(line, err=True)))

    try:
        code = run_until_signal(drilled())
    except StackError as error:
        typer.echo(f"The drill failed. {error}", err=True)
        raise typer.Exit(2) from error
    for outcome in outcomes:
        print_outcome(outcome, as_json=as_json)
        code = code or int(not outcome.right)
    raise typer.Exit(code)


async def stay_up(data: Path | None, *, keep: bool, as_json: bool) -> None:
    """Up, described, and waiting to be cancelled."""
    from stack.machine import machine  # not at the top: the broker's process starts without it

    async with machine(data, keep=keep) as running:
        typer.echo(described_as_json(running) if as_json else described(running))
        await asyncio.Event().wait()


def described(running: "Machine") -> str:
    """Lines for a shell: the providers as comments, the environment as exports."""
    comments = [f"# {line}" for line in running.providers()]
    exports = [
        f"export {name}={shlex.quote(value)}" for name, value in running.environment().items()
    ]
    return "\n".join([*comments, f"# folder: {running.folder}", *exports])


def described_as_json(running: "Machine") -> str:
    """The same for a program."""
    return json.dumps(
        {
            "environment": running.environment(),
            "providers": {part.name: part.provider for part in running.parts},
            "stand_ins": [part.name for part in running.parts if part.stand_in],
            "pids": {part.name: part.pid for part in running.parts if part.pid},
            "folder": str(running.folder),
        }
    )


if __name__ == "__main__":
    run_command(app)
