"""`python -m services migrate | serve`.

The one module of the services that knows the consumers: a write can be asked to wait for the
stores, which only they can read, and somebody has to put the two together.
"""

import typer

from consumers.assembly import stores
from consumers.settings import Settings
from outbox.database import Database
from outbox.migrate import migrate as run_migrations
from outbox.output import complain, say
from outbox.process import EXIT_UNANSWERED, answer, run_command, run_role
from services.assembly import all_migrations, catalog, embedder_of, qdrant
from services.serving import CannotListen, Serving

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def migrate() -> None:
    """Apply the migrations of the outbox and of every service that are missing; safe to repeat."""
    settings = Settings()
    migrating = run_migrations(settings.libpq_url(), all_migrations(), settings.search_path)
    say(f"{len(answer(settings, migrating))} migrations applied")


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
    """The service, assembled inside the loop that runs it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._serving: Serving | None = None

    async def run(self) -> None:
        settings = self.settings
        async with Database(settings, "catalog") as database, stores(settings, database) as waited:
            api = catalog(database, lambda: qdrant(settings), embedder_of(settings), waited)
            self._serving = Serving(settings, api)
            await self._serving.run()

    def stop(self) -> None:
        if self._serving is not None:
            self._serving.stop()


if __name__ == "__main__":
    run_command(app)
