"""`python -m consumers commands | qdrant | neo4j | drift | dead-letters`."""

import json as json_module
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from consumers import drift as drift_module
from consumers.assembly import catalog_commands, catalog_graph, catalog_vectors
from consumers.projection import Projection, ProjectionReaction
from consumers.runner import Reaction, Runner
from consumers.settings import Settings
from outbox.dead_letters import list_dead_letters
from outbox.process import answer, run_command, run_role
from outbox.relay import connect
from outbox.streams import Difference, StreamKey

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
Assemble = Callable[[Settings], AbstractAsyncContextManager[Projection]]

PROJECTIONS: dict[str, Assemble] = {"qdrant": catalog_vectors, "neo4j": catalog_graph}


@app.command()
def commands() -> None:
    """Hand commands from Kafka to the services until SIGTERM."""
    settings = Settings()
    _Role(settings, catalog_commands).run()


@app.command()
def qdrant() -> None:
    """Keep Qdrant in step with the committed events until SIGTERM."""
    _project("qdrant")


@app.command()
def neo4j() -> None:
    """Keep Neo4j in step with the committed events until SIGTERM."""
    _project("neo4j")


@app.command()
def drift(projection: str, json: Json = False) -> None:
    """Compare a projection's store with PostgreSQL; exit code 1 when keys differ."""
    if projection not in PROJECTIONS:
        raise typer.BadParameter(f"must be one of {', '.join(PROJECTIONS)}")
    settings = Settings()
    difference = answer(settings, _check(settings, PROJECTIONS[projection]))
    counts = {kind: len(keys) for kind, keys in _kinds(difference).items()}
    if json:
        keys = {kind: [stream.key for stream in keys] for kind, keys in _kinds(difference).items()}
        typer.echo(json_module.dumps({"counts": counts, "keys": keys}))
    else:
        _print("drift", [(kind, str(count)) for kind, count in counts.items()])
    raise typer.Exit(1 if difference.keys else 0)


@app.command()
def dead_letters(json: Json = False, limit: int = 100) -> None:
    """List the messages that need a person, oldest first."""
    settings = Settings()
    letters = answer(settings, list_dead_letters(settings, limit))
    if json:
        typer.echo(json_module.dumps(letters))
    else:
        _print("dead letter", [(str(letter["id"]), str(letter["error"])) for letter in letters])


class _Role:
    """A runner whose reaction is assembled inside the loop that runs it."""

    def __init__(
        self,
        settings: Settings,
        assemble: Callable[[Settings], AbstractAsyncContextManager[Reaction]],
    ) -> None:
        self._settings = settings
        self._assemble = assemble
        self._runner: Runner | None = None

    def run(self) -> None:
        run_role(self._settings, self._main, self._stop)

    async def _main(self) -> None:
        async with self._assemble(self._settings) as reaction:
            self._runner = Runner(self._settings, reaction)
            await self._runner.run()

    def _stop(self) -> None:
        if self._runner is not None:
            self._runner.stop()


def _project(name: str) -> None:
    settings = Settings()
    assemble = PROJECTIONS[name]

    @asynccontextmanager
    async def reaction(settings: Settings) -> AsyncIterator[Reaction]:
        async with assemble(settings) as projection:
            yield ProjectionReaction(projection)

    _Role(settings, reaction).run()


async def _check(settings: Settings, assemble: Assemble) -> Difference:
    async with assemble(settings) as projection, await connect(settings) as connection:
        return await drift_module.check(connection, projection)


def _kinds(difference: Difference) -> dict[str, list[StreamKey]]:
    return {
        "missing": difference.missing,
        "stale": difference.stale,
        "orphaned": difference.orphaned,
        "different": difference.different,
    }


def _print(title: str, rows: list[tuple[str, str]]) -> None:
    table = Table(title, "value")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    run_command(app)
