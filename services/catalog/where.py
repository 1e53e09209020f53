"""Where: turns a filter `attribute:text` into conditions of the search store.

An attribute is a text, a truth value or a number, and a filter is always text. So `price:1` finds
the number 1 and the text "1", and `lit:true` finds the value true and the text "true".
"""

import re
from collections.abc import Iterable, Mapping
from math import isfinite

from qdrant_client import models

from outbox.errors import build_rejection
from schemas.number import is_same_number

FIELD = "query.where"
NAME = r"[a-z][a-z0-9_]{0,49}"
# The numbers of JSON. So 007, +1, .5, 1_000, nan and digits of other scripts are texts.
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
BOOLS = {"true": True, "false": False}
MAX_CHARACTERS = 500  # the limit of an attribute's text
MAX_INTEGER = 2**63 - 1


def parse_where(filters: Iterable[str]) -> dict[str, str]:
    """The texts by attribute.

    Raises MessageRejected where a filter is not `attribute:text`, or an attribute comes twice.
    """
    where: dict[str, str] = {}
    for each in filters:
        name, colon, text = each.partition(":")
        if not colon or not re.fullmatch(NAME, name):
            raise build_rejection(
                "schema", FIELD, "must be `attribute:text`, with an attribute's name"
            )
        if name in where:
            raise build_rejection("schema", FIELD, "must name each attribute at most once")
        if len(text) > MAX_CHARACTERS:
            raise build_rejection("schema", FIELD, f"must have a text of at most {MAX_CHARACTERS}")
        where[name] = text
    return where


def build_conditions(where: Mapping[str, str]) -> list[models.Filter]:
    """One filter for each attribute; all of them must hold."""
    return [
        models.Filter(should=[*_list_conditions(f"fields.attributes.{name}", text)])
        for name, text in where.items()
    ]


def _list_conditions(key: str, text: str) -> Iterable[models.FieldCondition]:
    """A condition for each value that an attribute may have if it reads like this text."""
    yield match_value(key, text)
    if text in BOOLS:
        yield match_value(key, BOOLS[text])
    if INTEGER.fullmatch(text) and abs(int(text)) <= MAX_INTEGER:
        yield match_value(key, int(text))
    if (number := _read_number(text)) is not None:
        # The store matches only whole numbers exactly, so this is a range of one number.
        yield models.FieldCondition(key=key, range=models.Range(gte=number, lte=number))


def _read_number(text: str) -> float | None:
    """The number to look for; None where no command could have stored such a number."""
    if not NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if isfinite(number) and is_same_number(text, number) else None


def match_value(key: str, value: str | int | bool) -> models.FieldCondition:
    """The condition that a field of a point has exactly this value."""
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))
