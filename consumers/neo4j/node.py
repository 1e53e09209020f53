"""Node: what a change says of the graph, and what a graph can hold of it.

Whatever it cannot hold is refused here, by the name of the field: a server says it later, in words
of its own, and of some values never.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from outbox.errors import build_rejection

WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

# A key is in an index, where Neo4j takes 8,167 bytes; ours are in UTF-8, and leave room.
MAX_KEY_BYTES = 8_000
MAX_INTEGER = 2**63 - 1
MIN_INTEGER = -(2**63)


@dataclass(frozen=True, slots=True)
class Node:
    """What a change says: the node's properties, and its neighbours by the type of the edge.

    A neighbour is its properties, with at least `key`; they are set only if it does not exist.
    """

    properties: Mapping[str, Any] = field(default_factory=dict)
    neighbours: Mapping[str, Iterable[Mapping[str, Any]]] = field(default_factory=dict)


def check_key(where: str, key: str) -> None:
    """MessageRejected where no index takes it."""
    if not _is_plain(key):
        check_value(where, key)
    if len(key) > MAX_KEY_BYTES or len(key.encode()) > MAX_KEY_BYTES:
        raise refused(where, f"must be at most {MAX_KEY_BYTES} bytes in UTF-8")


def check_properties(where: str, properties: Mapping[str, Any]) -> None:
    """MessageRejected that names the property, where one is not a word or cannot be stored."""
    for name, value in properties.items():
        if not _is_word(name):  # it may be data: a hostile name is not repeated
            raise refused(where, "must have plain words for names")
        if not _is_plain(value):
            check_value(f"{where}.{name}", value)


@lru_cache(maxsize=4096)
def _is_word(name: str) -> bool:
    return WORD.fullmatch(name) is not None


def _is_plain(value: Any) -> bool:
    """Most values are: any graph holds them, and nothing more need be asked."""
    return type(value) is str and value.isascii()


def check_value(where: str, value: Any) -> None:
    """Text, a number, a truth, nothing, or a list of one kind of these."""
    if isinstance(value, list):
        if len({type(each) for each in value}) > 1 or any(isinstance(e, list) for e in value):
            raise refused(where, "must be a list of one kind")
        for each in value:
            check_value(where, each)
    elif isinstance(value, str):
        _check_text(where, value)
    elif isinstance(value, int | float):
        _check_number(where, value)
    elif value is not None:
        raise refused(where, "must be text, a number, a truth, or a list of these")


def _check_text(where: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise refused(where, "must be text without half surrogates") from None


def _check_number(where: str, number: float) -> None:
    if isinstance(number, int) and not MIN_INTEGER <= number <= MAX_INTEGER:
        raise refused(where, "must fit into 64 bits")
    if isinstance(number, float) and not math.isfinite(number):
        raise refused(where, "must be a finite number")


def refused(where: str, rule: str) -> Exception:
    """What parks the key, and says which field is to blame."""
    return build_rejection("refused-by-store", where, rule)
