"""Number: what a field that holds a 64-bit float takes, without changing it."""

from decimal import Decimal
from typing import Any

from pydantic_core import PydanticCustomError

RULE = "must be a number that a 64-bit float keeps exactly; or send it as text"
HIGHEST_EXACT = 2**53


def keep_exactly(value: Any) -> Any:
    """The value, for a pydantic `BeforeValidator`; an integer that a float would change is refused.

    9007199254740993 is one: as a float it is …992. A fraction is compared with what was written
    where the document is parsed, by `strict_json`. The negative zero becomes zero: they are the
    same number, and PostgreSQL's jsonb has but one of them.
    """
    if type(value) is int and not _is_exact(value):
        raise PydanticCustomError("inexact_number", RULE)
    return 0.0 if value == 0 and type(value) is float else value


def is_same_number(literal: str, number: float) -> bool:
    """Whether the float, as we write it, is the number in `literal`."""
    try:
        return Decimal(literal) == Decimal(repr(number))
    except ArithmeticError:  # an exponent beyond what even a decimal holds
        return False


def _is_exact(value: int) -> bool:
    if -HIGHEST_EXACT <= value <= HIGHEST_EXACT:
        return True
    try:
        return is_same_number(str(value), float(value))
    except OverflowError:
        return False
