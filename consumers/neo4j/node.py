"""Node: what a change says of the graph, and which values a graph can hold.

A value that it cannot hold is refused here, by the name of its field. A server would refuse it
later, in words of its own, and some values it would not refuse at all.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from outbox.errors import build_rejection

WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

# A key stands in an index, where Neo4j takes 8,167 bytes. Our limit counts UTF-8, and leaves room.
MAX_KEY_BYTES = 8_000
MAX_INTEGER = 2**63 - 1
MIN_INTEGER = -(2**63)


@dataclass(frozen=True, slots=True)
class Node:
    """What a change says of its node: its properties, and its neighbours by the type of the edge.

    A neighbour is a mapping of its properties, with at least `key`. They are set only where that
    neighbour does not exist yet.
    """

    properties: Mapping[str, Any] = field(default_factory=dict)
    neighbours: Mapping[str, Iterable[Mapping[str, Any]]] = field(default_factory=dict)


def check_key(where: str, key: str) -> None:
    """Raise MessageRejected where the key is too long for an index, or no valid text."""
    if not _is_plain(key):
        check_value(where, key)
    if len(key) > MAX_KEY_BYTES or len(key.encode()) > MAX_KEY_BYTES:
        raise build_refusal(where, f"must be at most {MAX_KEY_BYTES} bytes in UTF-8")


def check_properties(where: str, properties: Mapping[str, Any]) -> None:
    """Raise MessageRejected where a name is no plain word, or its value cannot be stored."""
    for name, value in properties.items():
        if not _is_word(name):  # it may be data: the error does not repeat a hostile name
            raise build_refusal(where, "must have plain words for names")
        if not _is_plain(value):
            check_value(f"{where}.{name}", value)


@lru_cache(maxsize=4096)
def _is_word(name: str) -> bool:
    return WORD.fullmatch(name) is not None


def _is_plain(value: Any) -> bool:
    """Whether it is ASCII text, as most values are; every graph holds that."""
    return type(value) is str and value.isascii()


def check_value(where: str, value: Any) -> None:
    """Raise MessageRejected unless it is text, a number, a bool, None, or a list of one kind."""
    if isinstance(value, list):
        if len({type(each) for each in value}) > 1 or any(isinstance(e, list) for e in value):
            raise build_refusal(where, "must be a list of one kind")
        for each in value:
            check_value(where, each)
    elif isinstance(value, str):
        _check_text(where, value)
    elif isinstance(value, int | float):
        _check_number(where, value)
    elif value is not None:
        raise build_refusal(where, "must be text, a number, a truth, or a list of these")


def _check_text(where: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise build_refusal(where, "must be text without half surrogates") from None


def _check_number(where: str, number: float) -> None:
    if isinstance(number, int) and not MIN_INTEGER <= number <= MAX_INTEGER:
        raise build_refusal(where, "must fit into 64 bits")
    if isinstance(number, float) and not math.isfinite(number):
        raise build_refusal(where, "must be a finite number")


def build_refusal(where: str, rule: str) -> Exception:
    """The MessageRejected that names this field and the rule that it breaks."""
    return build_rejection("refused-by-store", where, rule)
