"""What the commands of every subject share: `--json`, a reason, a connection, a table."""

import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import psycopg
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from outbox.connection import connect
from outbox.errors import Halted
from outbox.process import EXIT_HALTED, answer
from outbox.settings import Settings

T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the operation.")]


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A table on standard output; what is in the rows is shown as it is, brackets too."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console().print(table)


@contextmanager
def halted_in_one_line() -> Iterator[None]:
    """What only a person can repair is one line, and exit code 3."""
    try:
        yield
    except Halted as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(EXIT_HALTED) from None


def ask(settings: Settings, question: Callable[[psycopg.AsyncConnection[Any]], Awaitable[T]]) -> T:
    """What it answers, over a connection of its own in autocommit."""

    async def connected() -> T:
        async with await connect(settings, "command") as connection:
            return await question(connection)

    return answer(settings, connected())
