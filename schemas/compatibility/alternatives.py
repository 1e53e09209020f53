"""Alternatives: a JSON Schema as a list of plain ones, of which a value follows at least one.

References, `allOf`, `anyOf`, `oneOf`, `enum` and lists of types are resolved, so that whoever
compares two schemas sees only plain keywords of one type.
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
        """What a reference within the document points at; ValueError for any other reference."""
        found: Any = self.root
        if not reference.startswith("#"):
            raise ValueError(f"{reference}: must be a reference within its own document")
        for step in reference[1:].split("/")[1:]:
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return self.at(found)

    def same(self, other: "SchemaNode") -> bool:
        """Whether both are the same text, and so is whatever they may refer to."""
        if canonical(self.schema) != canonical(other.schema):
            return False
        if '"$ref"' not in json.dumps(self.schema):
            return True
        return canonical(self.root.get("$defs")) == canonical(other.root.get("$defs"))


def alternatives(node: SchemaNode) -> list[list[Part]]:
    """Every way to be valid, each as parts that hold together; most ways have one part.

    All parts of a way are of one type, and the first of them says most.
    """
    return [way for parts in _conjunctions(node) for way in _by_type(_merged(parts))]


def _conjunctions(node: SchemaNode) -> Iterator[list[Part]]:
    if isinstance(node.schema, bool):
        if node.schema:
            yield [{}]
        return
    own = {key: value for key, value in node.schema.items() if _says_something(key)}
    for chosen in product(*_factors(node, node.schema)):
        yield [own, *(part for parts in chosen for part in parts)]


def _says_something(keyword: str) -> bool:
    return not (keyword in COMBINING or keyword in ANNOTATIONS or keyword.startswith("x-"))


def _factors(node: SchemaNode, schema: dict[str, Any]) -> Iterator[list[list[Part]]]:
    """One list of ways for each keyword that combines schemas; a value follows one of each."""
    if "$ref" in schema:
        yield list(_conjunctions(node.target(schema["$ref"])))
    for each in schema.get("allOf", ()):
        yield list(_conjunctions(node.at(each)))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            yield [way for arm in schema[union] for way in _conjunctions(node.at(arm))]


def _merged(parts: list[Part]) -> list[Part]:
    """One part where that is exact; several where two parts speak of the same thing."""
    if sum(bool(part.keys() & SHAPES) for part in parts) > 1:
        return [{"additionalProperties": True} | part for part in parts]
    merged: list[Part] = [{}]
    for part in parts:
        for keyword, value in part.items():
            _add(merged, keyword, value)
    return merged


def _add(merged: list[Part], keyword: str, value: Any) -> None:
    first = merged[0]
    if keyword not in first or canonical(first[keyword]) == canonical(value):
        first[keyword] = value
    elif keyword in UPPER | LOWER:
        first[keyword] = (min if keyword in UPPER else max)(first[keyword], value)
    elif keyword == "required":
        first[keyword] = sorted({*first[keyword], *value})
    elif keyword == "type":
        first[keyword] = common(names(first), names({"type": value}))
    else:
        merged.append({keyword: value})


def common(one: list[str], other: list[str]) -> list[str]:
    """The types that both allow; an integer is a number."""
    return sorted(
        {name for name in one if name in other or (name == "integer" and "number" in other)}
        | {name for name in other if name == "integer" and "number" in one}
    )


def names(part: Part) -> list[str]:
    """The types that a part allows."""
    types = part.get("type", list(TYPES))
    return [types] if isinstance(types, str) else list(types)


def _by_type(parts: list[Part]) -> Iterator[list[Part]]:
    """A way for each value where a part names them one by one, else for each type."""
    for part in parts:
        if (values := finite(part)) is not None:
            yield from ([as_part(value), *_typed(parts, type_of(value))] for value in values)
            return
    for name in reduce(common, map(names, parts)):
        yield _typed(parts, name)


def _typed(parts: list[Part], name: str) -> list[Part]:
    """The same parts of that type only; one of none where a part does not allow it."""
    return [part | {"type": common(names(part), [name])} for part in parts]


def finite(part: Part) -> list[Any] | None:
    """The values that a part names one by one, None where it does not."""
    if "const" in part:
        return [part["const"]]
    if "enum" in part:
        return list(part["enum"])
    if all(name in ("null", "boolean") for name in names(part)):
        return [v for name in names(part) for v in ([None] if name == "null" else [True, False])]
    return None


def as_part(value: Any) -> Part:
    """The part that only this value follows."""
    part: Part = {"const": value, "type": type_of(value)}
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
    unique = len({canonical(inner) for inner in value}) == len(value)
    size = {"minItems": len(value), "maxItems": len(value)}
    return {"prefixItems": items, "uniqueItems": unique, **size}


def type_of(value: Any) -> str:
    """The narrowest type of a JSON value; 1.0 is an integer, as JSON Schema has it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, int | float):
        return "integer" if value == int(value) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def canonical(value: Any) -> str:
    """The same text for equal JSON values: `true` is not 1, and 1.0 is 1."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def exact(number: float) -> Fraction:
    """The decimal that is written, not its binary neighbour."""
    return Fraction(str(number))
