"""`python -m services migrate | serve`.

The one module of the services that knows the consumers: a write can be asked to wait for the
stores, which only they can read, and somebody has to put the two together.
"""

import asyncio

import typer
import uvicorn

from consumers.assembly import stores
from consumers.settings import Settings
from outbox import logs
from outbox.database import Database
from outbox.failpoints import arm
from outbox.migrate import migrate as run_migrations
from outbox.process import answer, run_command
from services.assembly import all_migrations, catalog, http_config, qdrant
from services.catalog.embedder import WordLlamaEmbedder

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def migrate() -> None:
    """Apply the migrations of the outbox and of every service that are missing; safe to repeat."""
    settings = Settings()
    applied = answer(settings, run_migrations(settings.libpq_url(), all_migrations()))
    typer.echo(f"{len(applied)} migrations applied")


@app.command()
def serve() -> None:
    """Answer HTTP until SIGTERM; requests that were accepted are finished."""
    settings = Settings()
    logs.configure(settings.log_format, settings.log_level, settings.log_queue_bytes)
    arm(settings.failpoints)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    async with Database(settings, "catalog") as database, stores(settings, database) as waited:
        api = catalog(database, lambda: qdrant(settings), WordLlamaEmbedder(), waited)
        await uvicorn.Server(http_config(settings, api)).serve()


if __name__ == "__main__":
    run_command(app)
