"""Options and arguments that take numbers, within what PostgreSQL and a clock can hold."""

from math import isnan
from typing import Annotated

import typer

from outbox.cursor.cut import HIGHEST

MAX_NUMBER = 2_147_483_647
MAX_RATE = 1_000_000.0
MAX_WAIT_SECONDS = 31_536_000.0  # a year

FromPosition = Annotated[int | None, typer.Option(min=0, max=HIGHEST, help="The first position.")]
ToPosition = Annotated[int | None, typer.Option(min=0, max=HIGHEST, help="The last position.")]


def refuse_nan(value: float | None) -> float | None:
    """Refuse NaN, which is within every range; the callback of an option. None is left as it is."""
    if value is not None and isnan(value):
        raise typer.BadParameter("must be a number")
    return value
