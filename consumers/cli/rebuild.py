"""`python -m consumers rebuild start | status | rollback | drop`."""

from collections.abc import Coroutine
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import typer

from consumers.cli.options import Patience, build_check_options
from consumers.installed import PROJECTIONS
from consumers.projections.generations import Generation
from consumers.rebuild.journal import Rebuild, find_latest
from consumers.rebuild.rebuild import drop, rebuild_through_outages
from consumers.rebuild.request import RebuildRequest
from consumers.settings import Settings
from outbox.cli.console import Json, Reason, report_halt
from outbox.cli.options.number import MAX_NUMBER, MAX_RATE, refuse_nan
from outbox.cli.options.option_groups import group_options
from outbox.cli.progress_bar import show_progress
from outbox.errors import OutboxError, translate_errors
from outbox.escape import escape
from outbox.operations import Operation
from outbox.postgres.connection import connect_command
from outbox.runtime.lifecycle import EXIT_UNANSWERED, answer, calm_the_collector
from outbox.runtime.output import complain, print_table, say, say_json

SHOWN = ("action", "generation", "phase", "keys", "differing", "brought", "checks", "operator")

app = typer.Typer(
    no_args_is_help=True, help="A store made anew beside the live one, and put in its place."
)
Name = Annotated[str, typer.Option("--projection", help=f"One of {', '.join(PROJECTIONS)}.")]
Rate = Annotated[
    float | None,
    typer.Option(min=0.1, max=MAX_RATE, callback=refuse_nan, help="Keys a second; else no limit."),
]
Model = Annotated[str | None, typer.Option(help="The embedding model; else the live one's.")]
AllowLeft = Annotated[
    int, typer.Option(min=0, max=MAX_NUMBER, help="Keys that may differ if none can be mended.")
]
Now = Annotated[bool, typer.Option("--now", help="Switch first, and bring it up to date after.")]
Number = Annotated[
    int, typer.Option("--generation", min=1, max=MAX_NUMBER, help="Its number; see `status`.")
]


@dataclass(frozen=True, slots=True)
class RebuildOptions:
    """What `start` and `rollback` share: a rate, the patience of checks, and what may differ."""

    rate: Rate = None
    patience: Patience = None
    allow_left: AllowLeft = 0


@app.command("start")
@group_options(options=RebuildOptions)
def start_command(
    *,
    projection: Name,
    reason: Reason,
    model: Model = None,
    options: RebuildOptions,
    json: Json = False,
) -> None:
    """Fill a new generation while writers go on, check that it is equal, and make it the live one.

    If it was stopped or killed, the same command goes on. It waits through outages. Exit code 3 if
    an operator has to do something first, which it names.
    """
    settings = Settings()
    asked = _build_request(settings, "rebuild", projection, reason, options)
    _carry_out(settings, replace(asked, model=model), json=json)


@app.command("rollback")
@group_options(options=RebuildOptions)
def rollback_command(
    *,
    projection: Name,
    reason: Reason,
    now: Now = False,
    options: RebuildOptions,
    json: Json = False,
) -> None:
    """Bring the former generation up to date, and make it the live one again.

    Interruptions, outages and exit codes are handled like those of `start`.
    """
    settings = Settings()
    asked = _build_request(settings, "rollback", projection, reason, options)
    _carry_out(settings, replace(asked, now=now), json=json)


@app.command("status")
def status_command(json: Json = False) -> None:
    """The generations of each store, and how far its last rebuild is.

    Exit code 2 if a store could not be asked; what PostgreSQL says of it is shown all the same.
    """
    settings = Settings()
    states = answer(settings, _read_status(settings))
    if json:
        say_json(states)
    else:
        print_table(
            ("projection", "generations", *SHOWN),
            [
                (name, _format_generations(each), *_build_row(each["rebuild"]))
                for name, each in states.items()
            ],
        )
    unanswered = {name: each["error"] for name, each in states.items() if each["error"]}
    for name, why in unanswered.items():
        complain(f"{name}: {why}")
    if unanswered:
        raise typer.Exit(EXIT_UNANSWERED)


@app.command("drop")
def drop_command(projection: Name, generation: Number, reason: Reason, json: Json = False) -> None:
    """Remove a generation that is not live, and abandon a rebuild into it."""
    settings = Settings()
    operation = _build_operation(settings, "rebuild drop", projection, reason)

    async def drop_it() -> None:
        async with PROJECTIONS[projection](settings) as store:
            await drop(settings, store.generations, generation, operation)

    _answer(settings, drop_it())
    say_json({"dropped": generation}) if json else say(f"{generation} dropped")


def _build_operation(settings: Settings, action: str, projection: str, reason: str) -> Operation:
    if projection not in PROJECTIONS:
        raise typer.BadParameter(f"{escape(projection)}: must be one of {', '.join(PROJECTIONS)}")
    return Operation(settings.operator, action, projection, reason)


def _build_request(
    settings: Settings, action: str, projection: str, reason: str, options: RebuildOptions
) -> RebuildRequest:
    return RebuildRequest(
        _build_operation(settings, action, projection, reason),
        build_check_options(settings, options.patience),
        keys_per_second=options.rate,
        allow_left=options.allow_left,
    )


def _carry_out(settings: Settings, asked: RebuildRequest, *, json: bool) -> None:
    calm_the_collector()
    done = _answer(settings, _rebuild(settings, asked, quiet=json))
    if json:
        say_json(asdict(done))
    else:
        print_table(SHOWN, [_build_row(asdict(done))])


def _answer(settings: Settings, question: Coroutine[Any, Any, Any]) -> Any:
    """Run it; what only an operator can repair is one line and exit code 3."""

    async def ask() -> Any:
        with report_halt(), translate_errors():
            return await question

    return answer(settings, ask())


async def _rebuild(settings: Settings, asked: RebuildRequest, *, quiet: bool) -> Rebuild:
    asked.operation.require_reason()
    name = asked.operation.subject
    with show_progress(f"{name} keys", quiet=quiet) as on_progress:
        async with PROJECTIONS[name](settings) as store:
            return await rebuild_through_outages(settings, store.generations, asked, on_progress)


async def _read_status(settings: Settings) -> dict[str, Any]:
    with translate_errors():
        async with await connect_command(settings, "rebuild") as connection:
            return {name: await _read_state(settings, connection, name) for name in PROJECTIONS}


async def _read_state(settings: Settings, connection: Any, name: str) -> dict[str, Any]:
    """What PostgreSQL and the store say of one projection.

    If the store does not answer, `generations` is None and `error` says why; else `error` is None,
    or says which generations are another program's.
    """
    row = await find_latest(connection, name)
    state: dict[str, Any] = {"rebuild": asdict(row) if row else None, "error": None}
    try:
        async with PROJECTIONS[name](settings) as store:
            existing: list[Generation] = await store.generations.list_generations()
            foreign = [each.foreign for each in existing if each.foreign]
            generations = {"generations": [asdict(each) for each in existing]}
            return state | generations | {"error": "; ".join(foreign) or None}
    except OutboxError as error:
        return state | {"generations": None, "error": str(error)}


def _format_generations(state: dict[str, Any]) -> str:
    if state["generations"] is None:
        return "not known"
    return " ".join(map(_format_generation, state["generations"])) or "none"


def _format_generation(generation: dict[str, Any]) -> str:
    """Mark the live generation with a star, and one that another program made with "?"."""
    mark = "?" if generation["foreign"] else ""
    return f"{generation['number']}{mark}{'*' if generation['live'] else ''}"


def _build_row(rebuild: dict[str, Any] | None) -> tuple[object, ...]:
    return tuple(rebuild[name] for name in SHOWN) if rebuild else ("-",) * len(SHOWN)
