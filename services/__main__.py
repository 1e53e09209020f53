"""`python -m services migrate`."""

import typer

from outbox.postgres.migrate import migrate as run_migrations
from outbox.runtime.lifecycle import answer, run_command
from outbox.runtime.output import say
from services.migrations import all_migrations
from services.settings import Settings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def services() -> None:
    """Make `migrate` a command of its own, even while it is the only one."""


@app.command()
def migrate() -> None:
    """Apply the migrations of the outbox and of every service that are missing; safe to repeat."""
    settings = Settings()
    migrating = run_migrations(settings.libpq_url(), all_migrations(), settings.search_path)
    say(f"{len(answer(settings, migrating))} migrations applied")


if __name__ == "__main__":
    run_command(app)
