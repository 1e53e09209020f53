"""Numbers: a field that holds a 64-bit float accepts only what a float holds without change."""

from decimal import Decimal
from typing import Any

from pydantic_core import PydanticCustomError

RULE = "must be a number that a 64-bit float keeps exactly; or send it as text"
HIGHEST_EXACT = 2**53


def keep_exactly(value: Any) -> Any:
    """Return the value, for a pydantic `BeforeValidator`; refuse an integer that a float changes.

    9007199254740993 is such an integer: as a float it is …992. Fractions are not checked here:
    `strict_json` compares them with what was written while it parses the document. The negative
    zero becomes zero, because they are the same number, and PostgreSQL's jsonb has only one of
    them. Raises PydanticCustomError.
    """
    if type(value) is int and not _is_exact(value):
        raise PydanticCustomError("inexact_number", RULE)
    return 0.0 if value == 0 and type(value) is float else value


def is_same_number(literal: str, number: float) -> bool:
    """Whether the float, in the digits in which we write it, is the number in `literal`."""
    try:
        return Decimal(literal) == Decimal(repr(number))
    except ArithmeticError:  # the exponent is too large even for a Decimal
        return False


def _is_exact(value: int) -> bool:
    if -HIGHEST_EXACT <= value <= HIGHEST_EXACT:
        return True
    try:
        return is_same_number(str(value), float(value))
    except OverflowError:
        return False
