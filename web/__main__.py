"""`python -m web serve`."""

import typer

from consumers.installed import PROJECTIONS
from consumers.read_your_writes import WaitedStores
from consumers.settings import Settings
from outbox.runtime.lifecycle import EXIT_UNANSWERED, run_command, run_role
from outbox.runtime.output import complain
from outbox.write.database import Database
from services.assembly import catalog, embedder_of, qdrant
from web.server import CannotListen, Serving

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def web() -> None:
    """Make `serve` a command of its own, even while it is the only one."""


@app.command()
def serve() -> None:
    """Answer HTTP until SIGTERM; requests that were accepted are finished."""
    role = _Role(Settings())
    try:
        run_role(role.settings, role.run, role.stop)
    except CannotListen as error:
        complain(str(error))
        raise typer.Exit(EXIT_UNANSWERED) from None


class _Role:
    """The HTTP service; it is assembled inside the event loop that runs it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._serving: Serving | None = None

    async def run(self) -> None:
        settings = self.settings
        async with (
            Database(settings, "catalog") as database,
            WaitedStores(settings, database, PROJECTIONS) as waited,
        ):
            api = catalog(database, lambda: qdrant(settings), embedder_of(settings), waited)
            self._serving = Serving(settings, api)
            await self._serving.run()

    def stop(self) -> None:
        if self._serving is not None:
            self._serving.stop()


if __name__ == "__main__":
    run_command(app)
