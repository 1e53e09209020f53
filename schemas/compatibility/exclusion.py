"""Exclusion: whether the arms of a `oneOf` exclude each other by type or by a required constant."""

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

from schemas.compatibility.alternatives import (
    Part,
    SchemaNode,
    intersect_types,
    list_alternatives,
    list_types,
    list_values,
    render_canonical,
)
from schemas.compatibility.refusal import Refusal


def find_overlaps(reader: SchemaNode, path: str) -> Iterator[Refusal]:
    """Yield a Refusal for each `oneOf` whose arms may overlap.

    A `oneOf` refuses a value that two of its arms accept, so its arms must exclude each other.
    """
    if not isinstance(reader.schema, dict):
        return
    if "oneOf" in reader.schema and "discriminator" not in reader.schema:
        arms = [list_alternatives(reader.at(arm)) for arm in reader.schema["oneOf"]]
        if not all(_exclude(a, b) for pair in combinations(arms, 2) for a, b in product(*pair)):
            yield Refusal(path, "oneOf", None, "arms that may overlap")
    for inner in _list_same_level(reader, reader.schema):
        yield from find_overlaps(inner, path)


def _list_same_level(node: SchemaNode, schema: dict[str, Any]) -> Iterator[SchemaNode]:
    """The schemas that the same value must follow, or may follow."""
    if "$ref" in schema:
        yield node.target(schema["$ref"])
    for combining in ("allOf", "anyOf", "oneOf"):
        yield from map(node.at, schema.get(combining, ()))


def _exclude(one: list[Part], other: list[Part]) -> bool:
    return any(_are_disjoint(a, b) for a in one for b in other)


def _are_disjoint(a: Part, b: Part) -> bool:
    """Whether no value follows both parts: their types, or a required constant, differ."""
    if not intersect_types(list_types(a), list_types(b)):
        return True
    if "const" in a and "const" in b:
        return render_canonical(a["const"]) != render_canonical(b["const"])
    both = set(a.get("required", ())) & set(b.get("required", ()))
    return any(
        not _list_constants(a, name) & _list_constants(b, name)
        for name in both
        if _list_constants(a, name) and _list_constants(b, name)
    )


def _list_constants(part: Part, name: str) -> set[str]:
    """The values that a field may have, where its schema lists them; else the empty set."""
    inner = part.get("properties", {}).get(name)
    named = isinstance(inner, dict) and bool({"const", "enum"} & inner.keys())
    return {render_canonical(value) for value in list_values(inner) or ()} if named else set()
