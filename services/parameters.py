"""Parameters: a number in a path or a query is written in digits only."""

import re
from typing import Any

from pydantic import BeforeValidator

_WHOLE = re.compile(r"-?[0-9]{1,18}")


def _read_whole(value: Any) -> Any:
    """Refuse `1_000`, ` 1`, `+1` and `1.0`, which pydantic would accept as numbers."""
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise ValueError("must be a whole number in digits")
    return value


DIGITS = BeforeValidator(_read_whole)
