"""What may be told of a writer's and a reader's part without looking inside: types and limits.

`w` is the part of the writer, of one type; `r` is the reader's.
"""

import re
from collections.abc import Iterator

from schemas.compatibility.alternatives import Part, canonical, exact, finite, names
from schemas.compatibility.refusal import Refusal

RANGES = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


def alike(w: Part, r: Part) -> bool:
    """Whether the reader's part takes the one type of the writer's."""
    return len(names(w)) == 1 and takes(r, names(w)[0], w)


def takes(r: Part, kind: str, w: Part) -> bool:
    """Whether the reader's part takes the type of the writer's; whole numbers are integers."""
    types = names(r)
    if kind == "integer":
        return "integer" in types or "number" in types
    if kind == "number" and "number" not in types:
        step = w.get("multipleOf")
        return "integer" in types and step is not None and exact(step).denominator == 1
    return kind in types


def values(w: Part, r: Part, path: str) -> Iterator[Refusal]:
    keyword = "const" if "const" in r else "enum"
    values = finite({key: r[key] for key in ("const", "enum") if key in r} | {"type": "string"})
    if values is None:
        return
    if "const" not in w:
        yield Refusal(path, keyword, None, values)
    elif canonical(w["const"]) not in {canonical(value) for value in values}:
        yield Refusal(path, keyword, w["const"], values)


def string(w: Part, r: Part, path: str) -> Iterator[Refusal]:
    yield from size(w, r, "string", path)
    for keyword in ("pattern", "format"):
        if keyword in r and w.get(keyword) != r[keyword] and not _matches(w, r, keyword):
            yield Refusal(path, keyword, w.get(keyword), r[keyword])


def _matches(w: Part, r: Part, keyword: str) -> bool:
    return keyword == "pattern" and "const" in w and bool(re.search(r["pattern"], w["const"]))


def number(w: Part, r: Part, path: str) -> Iterator[Refusal]:
    for bound, sign in (("Maximum", 1), ("Minimum", -1)):
        plain, strict = bound.lower(), f"exclusive{bound}"
        for keyword in (plain, strict):
            if keyword in r and not _bounded(w, r[keyword], sign, strict=keyword == strict):
                yield Refusal(path, keyword, w.get(plain, w.get(strict)), r[keyword])
    step = w.get("multipleOf", 1 if names(w) == ["integer"] else None)
    wanted = r.get("multipleOf")
    if wanted and w.get("const") != 0 and (step is None or (exact(step) / exact(wanted)) % 1):
        yield Refusal(path, "multipleOf", step, wanted)


def _bounded(w: Part, limit: float, sign: int, *, strict: bool) -> bool:
    """Whether the writer's numbers all are at most, or below, the limit; at least for -1."""
    bound = "Maximum" if sign > 0 else "Minimum"
    plain, exclusive = w.get(bound.lower()), w.get(f"exclusive{bound}")
    reach = sign * exact(limit)
    if plain is not None and (
        sign * exact(plain) < reach or (exact(plain) == exact(limit) and not strict)
    ):
        return True
    if exclusive is None:
        return False
    if sign * exact(exclusive) <= reach:
        return True
    largest = -(-(sign * exact(exclusive)) // 1) - 1  # the next whole number below it
    return names(w) == ["integer"] and (largest < reach or (largest == reach and not strict))


def size(w: Part, r: Part, kind: str, path: str) -> Iterator[Refusal]:
    least, most = RANGES[kind]
    if r.get(least, 0) > w.get(least, 0):
        yield Refusal(path, least, w.get(least), r[least])
    if most in r and w.get(most, float("inf")) > r[most]:
        yield Refusal(path, most, w.get(most), r[most])
