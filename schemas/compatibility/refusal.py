"""Refusal: one reason for which a reader may refuse what a writer may write."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Refusal:
    """Where a reader may refuse what a writer may write, by which keyword, and both its values.

    The keyword `unknown` is a field that the reader does not know and refuses, or, where
    `ignored` says so, reads without it.
    """

    path: str
    keyword: str
    written: Any = None
    read: Any = None
    ignored: bool = False
