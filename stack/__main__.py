"""`python -m stack`: every part on one machine."""

import asyncio
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outbox.cli.options.number import MAX_NUMBER, MAX_WAIT_SECONDS, refuse_nan
from outbox.runtime import logs
from outbox.runtime.lifecycle import run_command
from outbox.runtime.output import complain, say, say_json
from stack.errors import StackError
from stack.process.interrupt import run_until_signal
from stack.servers.mock_broker import serve

if TYPE_CHECKING:
    from stack.machine import Machine

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def configure() -> None:
    """Send logs to the standard error, so that the standard output has only what was asked for."""
    logs.configure("console", "info")


@app.command()
def broker() -> None:
    """Be a mock Kafka broker: prints {"bootstrap": ...}, lives until SIGTERM or its input ends."""
    serve(say)


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
        complain(*f"The machine could not be started. {error}".splitlines())
        raise typer.Exit(1) from error
    raise typer.Exit(code)


@app.command()
def demo(
    once: Annotated[bool, typer.Option(help="Exit after the comparison.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=4, max=MAX_NUMBER, help="Only so many airports.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="For HTTP; 0: a free one.")] = 0,
    keep: Annotated[bool, typer.Option(help="Keep the temporary folder.")] = False,
    data: Annotated[Path | None, typer.Option(help="Use this folder, and keep it.")] = None,
    verbose: Annotated[bool, typer.Option(help="Show the roles' logs.")] = False,
) -> None:
    """Send 3,376 airports through every part, and compare the stores."""
    from stack.demo.demo import DemoOptions, DisagreementError, demo  # the broker starts without it
    from stack.demo.report import Report

    logs.configure("console", "info" if verbose else "warning")
    options = DemoOptions(once=once, limit=limit, http_port=port, data=data, keep=keep)
    try:
        code = run_until_signal(demo(options, Report(as_json=as_json)))
    except (StackError, DisagreementError) as error:
        complain(*f"The demo failed. {error}".splitlines())
        raise typer.Exit(1) from error
    raise typer.Exit(code)


@app.command("drift-drill")
def drift_drill(
    keys: Annotated[int, typer.Option(min=1_000, max=MAX_NUMBER, help="How many items.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Draws which items are broken.")] = 1,
    patience: Annotated[
        float,
        typer.Option(min=0, max=MAX_WAIT_SECONDS, callback=refuse_nan, help="Seconds; of a check."),
    ] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
    keep: Annotated[bool, typer.Option(help="Keep the temporary folder.")] = False,
    verbose: Annotated[bool, typer.Option(help="Show the roles' logs.")] = False,
) -> None:
    """Break both stores in known ways while writers go on; check, repair, and compare all of it.

    Exit code 1 where a check was not exact, or a repair left or touched what it must not.
    """
    from stack.drill.drill import drill
    from stack.drill.outcome import DrillOptions, DrillOutcome, print_outcome

    logs.configure("console", "info" if verbose else "warning")
    options = DrillOptions(keys, patience_seconds=patience, seed=seed, keep=keep)
    outcomes: list[DrillOutcome] = []

    async def run_drill() -> None:
        outcomes.append(await drill(options, complain))

    try:
        code = run_until_signal(run_drill())
    except StackError as error:
        complain(*f"The drill failed. {error}".splitlines())
        raise typer.Exit(2) from error
    for outcome in outcomes:
        print_outcome(outcome, as_json=as_json)
        code = code or int(not outcome.right)
    raise typer.Exit(code)


async def stay_up(data: Path | None, *, keep: bool, as_json: bool) -> None:
    """Start every part, print how to reach them, and wait until it is cancelled."""
    from stack.machine import machine  # not at the top: the broker's process starts without it

    async with machine(data, keep=keep) as running:
        if as_json:
            say_json(describe_as_json(running))
        else:
            say(*describe_environment(running))
        await asyncio.Event().wait()


def describe_environment(running: "Machine") -> list[str]:
    """Return lines for a shell: the providers as comments, the environment as exports."""
    comments = [f"# {line}" for line in running.providers()]
    exports = [
        f"export {name}={shlex.quote(value)}" for name, value in running.environment().items()
    ]
    return [*comments, f"# folder: {running.folder}", *exports]


def describe_as_json(running: "Machine") -> dict[str, object]:
    """Return the environment, the providers, the pids and the folder, for a program to read."""
    return {
        "environment": running.environment(),
        "providers": {part.name: part.provider for part in running.parts},
        "stand_ins": [part.name for part in running.parts if part.stand_in],
        "pids": {part.name: part.pid for part in running.parts if part.pid},
        "folder": str(running.folder),
    }


if __name__ == "__main__":
    run_command(app)
