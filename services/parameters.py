"""Parameters: how a path or a query says a number; what pydantic takes beside is refused."""

import re
from typing import Any

from pydantic import BeforeValidator

_WHOLE = re.compile(r"-?[0-9]{1,18}")


def _read_whole(value: Any) -> Any:
    """Text of digits only: no `1_000`, ` 1`, `+1` or `1.0`, which pydantic reads as numbers."""
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise ValueError("must be a whole number in digits")
    return value


DIGITS = BeforeValidator(_read_whole)
