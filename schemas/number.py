"""Number: what a field that holds a 64-bit float takes, without changing it."""

from typing import Any

from pydantic_core import PydanticCustomError

RULE = "must be a number that a 64-bit float keeps exactly; or send it as text"


def keep_exactly(value: Any) -> Any:
    """The value, for a pydantic `BeforeValidator`; an integer that a float would change is refused.

    9007199254740993 is one: as a float it is …992. A fraction is compared with what was written
    where the document is parsed, by `strict_json`. The negative zero becomes zero: they are the
    same number, and PostgreSQL's jsonb has but one of them.
    """
    if type(value) is int and not _is_exact(value):
        raise PydanticCustomError("inexact_number", RULE)
    return 0.0 if value == 0 and type(value) is float else value


def _is_exact(value: int) -> bool:
    try:
        return int(float(value)) == value
    except OverflowError:
        return False
