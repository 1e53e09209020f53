"""`python -m consumers …`: the roles that follow Kafka; what shows and repairs the stores."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import typer

from consumers.cli import dead_letters, drift, rebuild
from consumers.cli.replay_preview import replay_preview
from consumers.cli.skip_lost import skip_removed
from consumers.cli.status import status
from consumers.installed import PROJECTIONS, catalog_commands
from consumers.projections.projection import ProjectionReaction
from consumers.runner.reaction import Reaction
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.errors import DependencyDown, Halted
from outbox.runtime.lifecycle import run_command, run_role

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def commands() -> None:
    """Hand commands from Kafka to the services until SIGTERM."""
    _Role(Settings(), catalog_commands).run()


@app.command()
def qdrant() -> None:
    """Keep Qdrant in step with the committed events until SIGTERM."""
    _project("qdrant")


@app.command()
def neo4j() -> None:
    """Keep Neo4j in step with the committed events until SIGTERM."""
    _project("neo4j")


app.add_typer(drift.app, name="drift")
app.add_typer(rebuild.app, name="rebuild")
app.command()(replay_preview)
app.command()(skip_removed)
app.command()(status)
app.add_typer(dead_letters.app, name="dead-letters")


class _Role:
    """A process that runs one reaction, which is assembled inside the event loop that runs it."""

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
        async with AsyncExitStack() as held:
            try:
                reaction = await held.enter_async_context(self._assemble(self._settings))
            except DependencyDown as error:  # the folder of local mode; no server is asked here
                raise Halted(str(error)) from error
            self._runner = Runner(self._settings, reaction)
            await self._runner.run()

    def _stop(self) -> None:
        if self._runner is not None:
            self._runner.stop()


def _project(name: str) -> None:
    assemble = PROJECTIONS[name]

    @asynccontextmanager
    async def reaction(settings: Settings) -> AsyncIterator[Reaction]:
        async with assemble(settings) as projection:
            yield ProjectionReaction(projection)

    _Role(Settings(), reaction).run()


if __name__ == "__main__":
    run_command(app)
