"""Number: options and arguments that take numbers, within what PostgreSQL and a clock can hold."""

from datetime import UTC, datetime, timedelta
from math import isnan
from typing import Annotated

import typer

from outbox.cursor.cut import HIGHEST

MAX_NUMBER = 2_147_483_647
MAX_RATE = 1_000_000.0
MAX_WAIT_SECONDS = 31_536_000.0  # a year
LONGEST = timedelta(days=36_500)

FromPosition = Annotated[int | None, typer.Option(min=0, max=HIGHEST, help="The first position.")]
ToPosition = Annotated[int | None, typer.Option(min=0, max=HIGHEST, help="The last position.")]


def refuse_nan(value: float | None) -> float | None:
    """A callback of an option: NaN is within every range, and is refused here."""
    if value is not None and isnan(value):
        raise typer.BadParameter("must be a number")
    return value


def time_ago(length: timedelta) -> datetime:
    """The instant so long ago; OverflowError where there was none."""
    if length > LONGEST:
        raise OverflowError
    return datetime.now(UTC) - length
