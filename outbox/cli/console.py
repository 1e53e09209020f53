"""What the commands of every subject share: common options, a connection, an orderly halt."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import psycopg
import typer

from outbox.errors import Halted
from outbox.postgres.connection import connect_command
from outbox.runtime.lifecycle import EXIT_HALTED, answer
from outbox.runtime.output import complain, print_table
from outbox.settings import Settings

__all__ = ["DryRun", "Json", "Reason", "ask", "print_table", "report_halt"]

T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only tell what would be done; change nothing.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the operation.")]


@contextmanager
def report_halt() -> Iterator[None]:
    """Turn Halted, which only an operator can repair, into one line and exit code 3."""
    try:
        yield
    except Halted as error:
        complain(str(error))
        raise typer.Exit(EXIT_HALTED) from None


def ask(settings: Settings, question: Callable[[psycopg.AsyncConnection[Any]], Awaitable[T]]) -> T:
    """Return the answer to `question`, which gets a connection of its own in autocommit.

    An error of PostgreSQL or Kafka ends the program with one line and exit code 2.
    """

    async def connect_and_ask() -> T:
        async with await connect_command(settings, "command") as connection:
            return await question(connection)

    return answer(settings, connect_and_ask())
