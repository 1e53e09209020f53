"""Strict JSON: the one form of JSON that HTTP, Kafka and every other entrance accept.

Python's and pydantic's parsers accept NaN, 1e400, duplicate keys and NUL. PostgreSQL refuses NUL,
and readers in other languages disagree about the rest. All four are refused here, before a
transaction opens. So are lone surrogates, documents that are too deep or too wide, and fractions
that readers would change: almost every JSON parser makes a 64-bit float of a number with a fraction
or an exponent, so a number of more digits than a float has would become another number.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from schemas import limits as written
from schemas.errors import MessageRejected, build_rejection
from schemas.number import is_same_number


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """What a document may hold; each limit is inclusive."""

    size_bytes: int = written.DOCUMENT_BYTES
    depth_levels: int = written.DEPTH_LEVELS
    object_keys: int = written.OBJECT_KEYS
    string_bytes: int = written.TEXT_BYTES


DEFAULT_LIMITS = JsonLimits()


# A float gives back every decimal of 15 significant digits. With the decimal
# point these are 16 characters.
SAFE_CHARACTERS = 16
INEXACT_NUMBER = (
    "must be a number that a 64-bit float gives back as it is written; or send it as text"
)


class _Inexact(float):
    """A float that differs from the number that was written."""


def load(document: bytes, limits: JsonLimits = DEFAULT_LIMITS) -> Any:
    """Parse `document`; MessageRejected, which names the path and the rule, where it is refused."""
    require_size(document, limits)
    value = _parse(document)
    for path, part, depth in _walk(value):
        _check(path, part, depth, limits)
    return value


def require_size(document: bytes, limits: JsonLimits = DEFAULT_LIMITS) -> None:
    """Raise MessageRejected (`too-large`) where the document has more bytes than allowed."""
    if len(document) > limits.size_bytes:
        raise build_rejection("too-large", "body", f"at most {limits.size_bytes} bytes")


def _parse(document: bytes) -> Any:
    try:
        return json.loads(
            document.decode(), object_pairs_hook=_build_object, parse_float=_parse_float
        )
    except MessageRejected:
        raise
    except UnicodeDecodeError as error:
        raise build_rejection("json", "body", f"must be UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise build_rejection(
            "json", "body", f"must be JSON ({error.msg}, character {error.pos})"
        ) from None
    except RecursionError:
        raise build_rejection("json", "body", "nested too deeply") from None
    except ValueError:  # an integer of more digits than Python converts
        raise build_rejection("json", "body", "a number has too many digits") from None


def _parse_float(literal: str) -> float:
    """The number, marked if it differs from what was written: its path is known only later."""
    number = float(literal)
    if (len(literal) <= SAFE_CHARACTERS and "e" not in literal.lower()) or not isfinite(number):
        return number
    return number if is_same_number(literal, number) else _Inexact(number)


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise build_rejection(
            "json", make_printable(twice), "a key may appear only once in an object"
        )
    return result


def _walk(value: Any) -> Iterator[tuple[str, Any, int]]:
    """Every part with its path and depth; it does not recurse, so no depth exhausts our stack."""
    stack: list[tuple[str, Any, int]] = [("", value, 1)]
    while stack:
        path, part, depth = stack.pop()
        yield path, part, depth
        if isinstance(part, dict):
            for key, child in part.items():
                yield _join(path, key), key, depth
                stack.append((_join(path, key), child, depth + 1))
        elif isinstance(part, list):
            stack.extend((_join(path, i), child, depth + 1) for i, child in enumerate(part))


def _check(path: str, part: Any, depth: int, limits: JsonLimits) -> None:
    if isinstance(part, str):
        _check_string(path, part, limits)
    elif isinstance(part, float):
        if not isfinite(part):
            raise build_rejection("json", path or "body", "must be a finite number")
        if isinstance(part, _Inexact):
            raise build_rejection("json", path or "body", INEXACT_NUMBER)
    elif isinstance(part, dict | list):
        if depth > limits.depth_levels:
            field = path.split(".")[0] or "body"
            raise build_rejection("json", field, f"nested at most {limits.depth_levels} levels")
        if isinstance(part, dict) and len(part) > limits.object_keys:
            raise build_rejection("json", path or "body", f"at most {limits.object_keys} keys")


def _check_string(path: str, text: str, limits: JsonLimits) -> None:
    if "\x00" in text:
        raise build_rejection("json", path or "body", "must not contain NUL")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise build_rejection("json", path or "body", "must not contain a lone surrogate") from None
    if size > limits.string_bytes:
        raise build_rejection(
            "json", path or "body", f"at most {limits.string_bytes} bytes of text"
        )


def _join(path: str, part: object) -> str:
    name = make_printable(str(part))
    return f"{path}.{name}" if path else name


def make_printable(name: str) -> str:
    """A text as it may stand in an error or a log: at most 100 characters, escaped to ASCII."""
    return ascii(name)[1:-1][:100] or "''"
