"""The migrations of the outbox and of every service, without anything else of a service."""

from pathlib import Path

from outbox.postgres.migrate import Migration, outbox_migrations, read_migrations


def all_migrations() -> list[Migration]:
    """Return all migrations in their order: the outbox's first, then each service's."""
    catalog = Path(__file__).parent / "catalog" / "migrations"
    return outbox_migrations() + read_migrations("catalog", catalog)
