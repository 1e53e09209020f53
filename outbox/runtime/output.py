"""Output: the one place that writes to standard output and standard error for an operator.

Every text is escaped here, so no command can forget it. Characters that cannot be encoded are
written with backslashes. A reader that has gone ends the program quietly.
"""

import io
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from outbox.escape import escape
from outbox.runtime.logged_stream import LoggedStream

EXIT_UNWRITTEN = 2
EXIT_NOBODY_READS = 128 + 13  # the exit code that a shell shows for a program ended by SIGPIPE
# A cell is padded to its column's width up to here, so that one long key does not widen every line.
PADDED_COLUMNS = 60
LEAST_COLUMN = 4  # width on a terminal: one character, two spaces and a line between columns
NUMBER = re.compile(r"-|[-+]?[0-9][0-9,]*(\.[0-9]+)?")


def accept_any_text() -> None:
    """Let both streams write characters that their encoding lacks (`LANG=C`) with backslashes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(*lines: str, error: bool = False) -> None:
    """Write lines to standard output; with `error`, to standard error."""
    if error:
        complain(*lines)
    else:
        _write(sys.stdout, lines)


def complain(*lines: str) -> None:
    """Write lines to standard error as plain text, even where logs are JSON."""
    stream: Any = sys.stderr
    if isinstance(stream, LoggedStream):
        stream = stream.original
    with suppress(OSError, ValueError):  # there is nowhere left to report it
        _write_lines(stream, lines)


def say_json(value: Any) -> None:
    """Write a value as one line of JSON in ASCII, exact for a program and safe on a terminal."""
    _write(sys.stdout, (json.dumps(value, default=str),))


def print_table(
    columns: Iterable[str],
    rows: Iterable[Iterable[object]],
    *,
    title: str = "",
    error: bool = False,
    console: Console | None = None,
) -> None:
    """Write a table to standard output, or with `error` to standard error.

    On a terminal a long cell goes on in the next line; `console` is that of a progress bar which is
    shown at the same time, if there is one. Elsewhere each row is one line, however long, with
    ` | ` between its cells. Columns of numbers are aligned to the right. No cell is ever cut.
    """
    stream = sys.stderr if error else sys.stdout
    headers = [_escape_cell(column, stream) for column in columns]
    cells = [[_escape_cell(cell, stream) for cell in row] for row in rows]
    if title:
        say(title, error=error)
    console = console or terminal(error=error)
    if stream is not None and stream.isatty() and _fits(console, headers):
        console.print(_build_table(headers, cells))
    else:
        say(*_format_lines(headers, cells), error=error)


def terminal(*, error: bool = False) -> Console:
    """Return a console for bars and tables; the caller escapes every text that it shows there."""
    columns = os.environ.get("COLUMNS", "")  # rich looks at it on some terminals only
    width = int(columns) if re.fullmatch("[1-9][0-9]{0,4}", columns) else None
    return Console(stderr=error, markup=False, highlight=False, width=width)


def _escape_cell(cell: object, stream: TextIO | None) -> str:
    """Return the cell as it will be written, so that its width is measured right."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return escape(str(cell)).encode(encoding, "backslashreplace").decode(encoding)


def _fits(console: Console, headers: Sequence[str]) -> bool:
    return console.width > LEAST_COLUMN * len(headers)


def _build_table(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    """Build a table for rich, which draws with `+`, `-` and `|` where the encoding has no lines."""
    table = Table(header_style="")
    for number, header in enumerate(headers):
        justify = "right" if _is_numeric(cells, number) else "left"
        table.add_column(Text(header), overflow="fold", justify=justify)  # type: ignore[arg-type] # a str
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def _format_lines(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [_measure_width(headers, cells, number) for number in range(len(headers))]
    numeric = [_is_numeric(cells, number) for number in range(len(headers))]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    rows = (_format_row(row, widths, numeric) for row in cells)
    return [_format_row(headers, widths, numeric), rule, *rows]


def _format_row(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = map(_pad, (*row, *[""] * (len(widths) - len(row))), widths, numeric)
    return f"| {' | '.join(padded)} |"


def _pad(cell: str, width: int, numeric: bool) -> str:
    space = " " * (width - cell_len(cell))
    return space + cell if numeric else cell + space


def _measure_width(headers: Sequence[str], cells: Sequence[Sequence[str]], number: int) -> int:
    widths = [cell_len(row[number]) for row in cells if number < len(row)]
    return min(PADDED_COLUMNS, max([*widths, cell_len(headers[number])]))


def _is_numeric(cells: Sequence[Sequence[str]], number: int) -> bool:
    column = [row[number] for row in cells if number < len(row)]
    return bool(column) and all(map(NUMBER.fullmatch, column))


def _write(stream: TextIO | None, lines: Sequence[str]) -> None:
    try:
        _write_lines(stream, lines)
    except BrokenPipeError:
        discard_output()
        raise SystemExit(EXIT_NOBODY_READS) from None
    except OSError as error:
        discard_output()
        complain(f"standard output cannot be written: {error.strerror}")
        raise SystemExit(EXIT_UNWRITTEN) from None


def _write_lines(stream: TextIO | None, lines: Sequence[str]) -> None:
    if stream is not None:  # it is None where the starting program closed it
        stream.write("".join(f"{escape(line)}\n" for line in lines))
        stream.flush()


def discard_output() -> None:
    """Send standard output to /dev/null, so that Python's own flush at the end raises nothing."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
