"""`python -m outbox …`: migrations, topics and the relay; commands that show and that repair."""

import typer

from outbox.cli import parked, partitions, replay
from outbox.cli.audit import audit
from outbox.cli.doctor import doctor
from outbox.cli.reconcile import reconcile
from outbox.cli.status import status
from outbox.cli.topics import topics
from outbox.postgres.migrate import migrate as run_migrations
from outbox.postgres.migrate import outbox_migrations
from outbox.relay.relay import Relay
from outbox.runtime.lifecycle import answer, run_command, run_role
from outbox.runtime.output import say
from outbox.settings import Settings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def migrate() -> None:
    """Apply the outbox's migrations that are missing; safe to repeat and to run twice at once."""
    settings = Settings()
    migrating = run_migrations(settings.libpq_url(), outbox_migrations(), settings.search_path)
    say(f"{len(answer(settings, migrating))} migrations applied")


@app.command()
def relay() -> None:
    """Publish committed messages to Kafka until SIGTERM; stand by while another relay leads."""
    settings = Settings()
    publishing = Relay(settings)
    run_role(settings, publishing.run, publishing.stop)


app.command()(topics)
app.command()(status)
app.command()(reconcile)
app.command()(doctor)
app.command()(audit)
app.add_typer(parked.app, name="parked")
app.add_typer(partitions.app, name="partitions")
app.add_typer(replay.app, name="replay")

if __name__ == "__main__":
    run_command(app)
