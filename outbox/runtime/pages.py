"""Pages: takes many items some at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def paginate(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items, `size` at a time; the last page may be shorter."""
    rest = iter(items)
    while page := list(islice(rest, size)):
        yield page
