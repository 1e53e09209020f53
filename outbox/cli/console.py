"""What the commands of every subject share: `--json`, a reason, a table."""

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the operation.")]


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A table on standard output; what is in the rows is shown as it is, brackets too."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console().print(table)
