"""Bounds: compares the types and limits of a writer's and a reader's part, but not their contents.

`w` is the part of the writer, of one type; `r` is the part of the reader. The functions named
`compare_…` yield one Refusal for each keyword by which the reader may refuse the writer's values.
"""

import re
from collections.abc import Iterator

from schemas.compatibility.alternatives import (
    Part,
    list_types,
    list_values,
    render_canonical,
    to_fraction,
)
from schemas.compatibility.refusal import Refusal

RANGES = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


def accepts_type(w: Part, r: Part) -> bool:
    """Whether the writer's part has one type, and the reader's part accepts it."""
    return len(list_types(w)) == 1 and _takes(r, list_types(w)[0], w)


def _takes(r: Part, kind: str, w: Part) -> bool:
    """Whether the reader's part accepts this type; a number that is always whole is an integer."""
    types = list_types(r)
    if kind == "integer":
        return "integer" in types or "number" in types
    if kind == "number" and "number" not in types:
        step = w.get("multipleOf")
        return "integer" in types and step is not None and to_fraction(step).denominator == 1
    return kind in types


def compare_values(w: Part, r: Part, path: str) -> Iterator[Refusal]:
    """Yield a refusal where the reader lists values that the writer's part does not keep to."""
    keyword = "const" if "const" in r else "enum"
    values = list_values(
        {key: r[key] for key in ("const", "enum") if key in r} | {"type": "string"}
    )
    if values is None:
        return
    if "const" not in w:
        yield Refusal(path, keyword, None, values)
    elif render_canonical(w["const"]) not in {render_canonical(value) for value in values}:
        yield Refusal(path, keyword, w["const"], values)


def compare_strings(w: Part, r: Part, path: str) -> Iterator[Refusal]:
    yield from compare_sizes(w, r, "string", path)
    for keyword in ("pattern", "format"):
        if keyword in r and w.get(keyword) != r[keyword] and not _matches(w, r, keyword):
            yield Refusal(path, keyword, w.get(keyword), r[keyword])


def _matches(w: Part, r: Part, keyword: str) -> bool:
    return keyword == "pattern" and "const" in w and bool(re.search(r["pattern"], w["const"]))


def compare_numbers(w: Part, r: Part, path: str) -> Iterator[Refusal]:
    """Yield a refusal for each bound or step of the reader that the writer's numbers may break."""
    for bound, sign in (("Maximum", 1), ("Minimum", -1)):
        plain, strict = bound.lower(), f"exclusive{bound}"
        for keyword in (plain, strict):
            if keyword in r and not _is_bounded(w, r[keyword], sign, strict=keyword == strict):
                yield Refusal(path, keyword, w.get(plain, w.get(strict)), r[keyword])
    step = w.get("multipleOf", 1 if list_types(w) == ["integer"] else None)
    wanted = r.get("multipleOf")
    if (
        wanted
        and w.get("const") != 0
        and (step is None or (to_fraction(step) / to_fraction(wanted)) % 1)
    ):
        yield Refusal(path, "multipleOf", step, wanted)


def _is_bounded(w: Part, limit: float, sign: int, *, strict: bool) -> bool:
    """Whether all numbers of the writer are at most the limit, or below it where `strict`.

    With `sign` -1 they must be at least the limit, or above it.
    """
    bound = "Maximum" if sign > 0 else "Minimum"
    plain, exclusive = w.get(bound.lower()), w.get(f"exclusive{bound}")
    reach = sign * to_fraction(limit)
    if plain is not None and (
        sign * to_fraction(plain) < reach
        or (to_fraction(plain) == to_fraction(limit) and not strict)
    ):
        return True
    if exclusive is None:
        return False
    if sign * to_fraction(exclusive) <= reach:
        return True
    largest = -(-(sign * to_fraction(exclusive)) // 1) - 1  # the next whole number below it
    return list_types(w) == ["integer"] and (largest < reach or (largest == reach and not strict))


def compare_sizes(w: Part, r: Part, kind: str, path: str) -> Iterator[Refusal]:
    least, most = RANGES[kind]
    if r.get(least, 0) > w.get(least, 0):
        yield Refusal(path, least, w.get(least), r[least])
    if most in r and w.get(most, float("inf")) > r[most]:
        yield Refusal(path, most, w.get(most), r[most])
