"""Alternatives: a JSON Schema as a list of plain schemas; a valid value follows at least one.

References, `allOf`, `anyOf`, `oneOf`, `enum` and lists of types are resolved, so that a comparison
of two schemas sees only plain keywords of one type.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import product
from typing import Any

Schema = dict[str, Any] | bool
Part = dict[str, Any]  # keywords of one type, without references and unions
TYPES = ("null", "boolean", "number", "string", "array", "object")
SHAPES = {"properties", "patternProperties", "additionalProperties"}
UPPER = {"maxLength", "maxItems", "maxProperties", "maximum", "exclusiveMaximum"}
LOWER = {"minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum"}
ANNOTATIONS = {
    "$id", "$schema", "$comment", "title", "description", "default", "examples", "deprecated",
    "readOnly", "writeOnly",
}  # fmt: skip
COMBINING = {"$ref", "allOf", "anyOf", "oneOf", "$defs", "discriminator"}


@dataclass(frozen=True, eq=False)
class SchemaNode:
    """A schema within a document; its references point into the document's `root`."""

    schema: Schema
    root: dict[str, Any]

    def at(self, schema: Schema) -> "SchemaNode":
        return SchemaNode(schema, self.root)

    def target(self, reference: str) -> "SchemaNode":
        """The schema that a reference within the document names; ValueError for any other one."""
        found: Any = self.root
        if not reference.startswith("#"):
            raise ValueError(f"{reference}: must be a reference within its own document")
        for step in reference[1:].split("/")[1:]:
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return self.at(found)

    def same(self, other: "SchemaNode") -> bool:
        """Whether both schemas, and the definitions that they may refer to, are equal."""
        if render_canonical(self.schema) != render_canonical(other.schema):
            return False
        if '"$ref"' not in json.dumps(self.schema):
            return True
        return render_canonical(self.root.get("$defs")) == render_canonical(other.root.get("$defs"))


def list_alternatives(node: SchemaNode) -> list[list[Part]]:
    """Every way to be valid, each as parts that hold together; most ways have one part.

    All parts of a way are of one type, and the first of them says most.
    """
    return [way for parts in _expand(node) for way in _split_by_type(_merge(parts))]


def _expand(node: SchemaNode) -> Iterator[list[Part]]:
    if isinstance(node.schema, bool):
        if node.schema:
            yield [{}]
        return
    own = {key: value for key, value in node.schema.items() if _restricts(key)}
    for chosen in product(*_list_factors(node, node.schema)):
        yield [own, *(part for parts in chosen for part in parts)]


def _restricts(keyword: str) -> bool:
    return not (keyword in COMBINING or keyword in ANNOTATIONS or keyword.startswith("x-"))


def _list_factors(node: SchemaNode, schema: dict[str, Any]) -> Iterator[list[list[Part]]]:
    """A list of ways for each keyword that combines schemas; a value follows one way of each."""
    if "$ref" in schema:
        yield list(_expand(node.target(schema["$ref"])))
    for each in schema.get("allOf", ()):
        yield list(_expand(node.at(each)))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            yield [way for arm in schema[union] for way in _expand(node.at(arm))]


def _merge(parts: list[Part]) -> list[Part]:
    """One part where merging is exact; several where two parts restrict the same thing."""
    if sum(bool(part.keys() & SHAPES) for part in parts) > 1:
        return [{"additionalProperties": True} | part for part in parts]
    merged: list[Part] = [{}]
    for part in parts:
        for keyword, value in part.items():
            _add(merged, keyword, value)
    return merged


def _add(merged: list[Part], keyword: str, value: Any) -> None:
    first = merged[0]
    if keyword not in first or render_canonical(first[keyword]) == render_canonical(value):
        first[keyword] = value
    elif keyword in UPPER | LOWER:
        first[keyword] = (min if keyword in UPPER else max)(first[keyword], value)
    elif keyword == "required":
        first[keyword] = sorted({*first[keyword], *value})
    elif keyword == "type":
        first[keyword] = intersect_types(list_types(first), list_types({"type": value}))
    else:
        merged.append({keyword: value})


def intersect_types(one: list[str], other: list[str]) -> list[str]:
    """The types that both lists allow, sorted; an integer is a number."""
    return sorted(
        {name for name in one if name in other or (name == "integer" and "number" in other)}
        | {name for name in other if name == "integer" and "number" in one}
    )


def list_types(part: Part) -> list[str]:
    """The types that a part allows."""
    types = part.get("type", list(TYPES))
    return [types] if isinstance(types, str) else list(types)


def _split_by_type(parts: list[Part]) -> Iterator[list[Part]]:
    """Yield a way for each value where a part lists its values, else for each type."""
    for part in parts:
        if (values := list_values(part)) is not None:
            yield from (
                [to_part(value), *_restrict_to_type(parts, find_type(value))] for value in values
            )
            return
    for name in reduce(intersect_types, map(list_types, parts)):
        yield _restrict_to_type(parts, name)


def _restrict_to_type(parts: list[Part], name: str) -> list[Part]:
    """The same parts restricted to one type; a part that does not allow it has no type left."""
    return [part | {"type": intersect_types(list_types(part), [name])} for part in parts]


def list_values(part: Part) -> list[Any] | None:
    """The values that a part lists one by one; None where it does not."""
    if "const" in part:
        return [part["const"]]
    if "enum" in part:
        return list(part["enum"])
    if all(name in ("null", "boolean") for name in list_types(part)):
        return [
            v for name in list_types(part) for v in ([None] if name == "null" else [True, False])
        ]
    return None


def to_part(value: Any) -> Part:
    """The part that only this value follows."""
    part: Part = {"const": value, "type": find_type(value)}
    if part["type"] in ("integer", "number"):
        step = {"multipleOf": abs(value)} if value else {}
        return part | {"minimum": value, "maximum": value} | step
    if isinstance(value, str):
        return part | {"minLength": len(value), "maxLength": len(value)}
    if isinstance(value, list):
        return part | _as_array(value)
    if isinstance(value, dict):
        fields = {name: {"const": inner} for name, inner in value.items()}
        return part | {"properties": fields, "required": list(value), "additionalProperties": False}
    return part


def _as_array(value: list[Any]) -> Part:
    items = [{"const": inner} for inner in value]
    unique = len({render_canonical(inner) for inner in value}) == len(value)
    size = {"minItems": len(value), "maxItems": len(value)}
    return {"prefixItems": items, "uniqueItems": unique, **size}


def find_type(value: Any) -> str:
    """The narrowest type of a JSON value; 1.0 is an integer, as JSON Schema has it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, int | float):
        return "integer" if value == int(value) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def render_canonical(value: Any) -> str:
    """A text that is the same for equal JSON values: `true` is not 1, and 1.0 is 1."""
    return json.dumps(_normalize(value), sort_keys=True)


def _normalize(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _normalize(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_normalize(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def to_fraction(number: float) -> Fraction:
    """The number as its decimal digits say, not its binary neighbour."""
    return Fraction(str(number))
