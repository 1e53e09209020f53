"""Whether the arms of a `oneOf` exclude each other, by what can be told at once."""

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

from schemas.compatibility.alternatives import (
    Part,
    SchemaNode,
    alternatives,
    canonical,
    common,
    finite,
    names,
)
from schemas.compatibility.refusal import Refusal


def ambiguous(reader: SchemaNode, path: str) -> Iterator[Refusal]:
    """A `oneOf` refuses what two of its arms take, so that its arms must exclude each other."""
    if not isinstance(reader.schema, dict):
        return
    if "oneOf" in reader.schema and "discriminator" not in reader.schema:
        arms = [alternatives(reader.at(arm)) for arm in reader.schema["oneOf"]]
        if not all(_exclude(a, b) for pair in combinations(arms, 2) for a, b in product(*pair)):
            yield Refusal(path, "oneOf", None, "arms that may overlap")
    for inner in _on_the_same_level(reader, reader.schema):
        yield from ambiguous(inner, path)


def _on_the_same_level(node: SchemaNode, schema: dict[str, Any]) -> Iterator[SchemaNode]:
    """The schemas that the same value must follow, or may."""
    if "$ref" in schema:
        yield node.target(schema["$ref"])
    for combining in ("allOf", "anyOf", "oneOf"):
        yield from map(node.at, schema.get(combining, ()))


def _exclude(one: list[Part], other: list[Part]) -> bool:
    return any(_apart(a, b) for a in one for b in other)


def _apart(a: Part, b: Part) -> bool:
    """Whether no value follows both, by what can be told at once."""
    if not common(names(a), names(b)):
        return True
    if "const" in a and "const" in b:
        return canonical(a["const"]) != canonical(b["const"])
    both = set(a.get("required", ())) & set(b.get("required", ()))
    return any(
        not _tags(a, name) & _tags(b, name) for name in both if _tags(a, name) and _tags(b, name)
    )


def _tags(part: Part, name: str) -> set[str]:
    """The only values that a field may have, where its schema names them; else none."""
    inner = part.get("properties", {}).get(name)
    named = isinstance(inner, dict) and bool({"const", "enum"} & inner.keys())
    return {canonical(value) for value in finite(inner) or ()} if named else set()
