"""JSON Schemas drawn at random, changes to them, and documents that follow them."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
FIELDS = ("a", "b", "c")
TEXTS = ["", "a", "ab", "ba", "aab", "x", "bbbbb"]
NUMBERS = [-3, -1, 0, 1, 2, 3, 5, 8, 0.5, 1.5, -2.5]
VALUES = [None, True, False, 1, 0, 1.5, "a", "b", "ab", [1], {"a": 1}]
REFERENCE = {"$ref": "#/$defs/Part"}


def some(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    """Any of these keywords."""
    return st.fixed_dictionaries({}, optional=strategies)


def typed(name: str, keywords: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return keywords.map(lambda drawn: {"type": name, **drawn})


COUNTS = st.integers(0, 4)
LIMITS = st.sampled_from([-3, -1, 0, 1, 2, 2.5, 5])
STEPS = st.sampled_from([1, 2, 0.5, 3])
PATTERNS = st.sampled_from(["^a", "b$", "^[ab]*$"])
STRINGS = typed("string", some(minLength=COUNTS, maxLength=COUNTS, pattern=PATTERNS))
BOUNDS = some(
    minimum=LIMITS, maximum=LIMITS, exclusiveMinimum=LIMITS, exclusiveMaximum=LIMITS,
    multipleOf=STEPS,
)  # fmt: skip
SCALARS = st.one_of(
    STRINGS,
    typed("integer", BOUNDS),
    typed("number", BOUNDS),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}]),
    st.lists(st.sampled_from(VALUES), min_size=1, max_size=3).map(lambda v: {"enum": v}),
    st.sampled_from(VALUES).map(lambda v: {"const": v}),
    st.tuples(STRINGS, STRINGS).map(lambda both: {"allOf": list(both)}),
)


def compound(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    arrays = some(
        items=inner, minItems=COUNTS, maxItems=COUNTS, uniqueItems=st.booleans(),
        prefixItems=st.lists(inner, min_size=1, max_size=2),
    )  # fmt: skip
    objects = some(
        properties=st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
        required=st.lists(st.sampled_from(FIELDS), unique=True, max_size=2),
        additionalProperties=st.booleans() | inner,
        patternProperties=st.dictionaries(st.sampled_from(["^x", "^[ab]$"]), inner, max_size=2),
        propertyNames=st.sampled_from([{"maxLength": 1}, {"maxLength": 2}, {"pattern": "^[a-y]"}]),
        minProperties=st.integers(0, 2),
        maxProperties=st.integers(1, 4),
    )
    arms = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        typed("array", arrays),
        typed("object", objects),
        arms.map(lambda drawn: {"anyOf": drawn}),
        arms.map(lambda drawn: {"oneOf": drawn}),
    )


@st.composite
def nodes(draw: st.DrawFn, depth: int, *, referring: bool = True) -> Schema:
    """A schema with at most so many levels below it."""
    if depth and draw(st.booleans()):
        return draw(compound(nodes(depth - 1, referring=referring)))
    return draw(SCALARS | st.just(REFERENCE) if referring else SCALARS)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """A document's schema, with one part that may be referred to from everywhere but itself."""
    return {**draw(nodes(2)), "$defs": {"Part": draw(nodes(1, referring=False))}}


def nodes_of(schema: Any) -> list[Schema]:
    """Every schema within a schema, itself first."""
    if isinstance(schema, list):
        return [node for inner in schema for node in nodes_of(inner)]
    if not isinstance(schema, dict):
        return []
    found = [schema]
    for keyword, inner in schema.items():
        if keyword in ("properties", "patternProperties", "$defs"):
            found += nodes_of(list(inner.values()))
        elif keyword not in ("const", "enum"):
            found += nodes_of(inner)
    return found


@st.composite
def changed(draw: st.DrawFn, schema: Schema) -> Schema:
    """The same with one to three changes, of which some narrow, some widen, and some do neither."""
    new = copy.deepcopy(schema)
    for _ in range(draw(st.integers(1, 3))):
        node = draw(st.sampled_from(nodes_of(new)))
        keywords = sorted(node.keys() - {"$defs"})
        less: bool = draw(st.booleans())
        if keywords and less:
            del node[draw(st.sampled_from(keywords))]
        else:
            node |= draw(nodes(1, referring=False))
    return new


@st.composite
def documents(draw: st.DrawFn, schema: Any, root: Schema) -> Any:
    """A value that mostly follows the schema."""
    if isinstance(schema, bool):
        return draw(st.sampled_from(VALUES))
    for inner in inner_schemas(draw, schema, root):
        return draw(documents(inner, root))
    if "const" in schema or "enum" in schema:
        return draw(st.sampled_from(schema.get("enum", [schema.get("const")])))
    return draw(of_type(schema, root))


def inner_schemas(draw: st.DrawFn, schema: Schema, root: Schema) -> Iterator[Schema]:
    """The schema referred to, or an arm of a union."""
    if "$ref" in schema:
        yield root["$defs"]["Part"]
    for union in {"anyOf", "oneOf", "allOf"} & schema.keys():
        yield draw(st.sampled_from(schema[union]))


def of_type(schema: Schema, root: Schema) -> st.SearchStrategy[Any]:
    match schema.get("type"):
        case "object":
            return objects_of(schema, root)
        case "array":
            return arrays_of(schema, root)
        case "string":
            return st.sampled_from(TEXTS)
        case "integer" | "number":
            return st.sampled_from(NUMBERS)
    return st.sampled_from(VALUES)


@st.composite
def arrays_of(draw: st.DrawFn, schema: Schema, root: Schema) -> list[Any]:
    prefix = [draw(documents(inner, root)) for inner in schema.get("prefixItems", ())]
    rest = draw(st.lists(documents(schema.get("items", True), root), max_size=3))
    return (prefix + rest)[: draw(st.sampled_from([None, 0, 1, 2]))]


@st.composite
def objects_of(draw: st.DrawFn, schema: Schema, root: Schema) -> dict[str, Any]:
    named = schema.get("properties", {})
    required = set(schema.get("required", ()))
    present = [name for name in named if name in required or draw(st.booleans())]
    found = {name: draw(documents(named[name], root)) for name in present}
    for pattern, inner in schema.get("patternProperties", {}).items():
        if draw(st.booleans()):
            found["x1" if pattern == "^x" else "a"] = draw(documents(inner, root))
    rest = schema.get("additionalProperties", "properties" not in schema)
    if rest is not False and draw(st.booleans()):
        found[draw(st.sampled_from(["c", "x2", "zz", "b"]))] = draw(documents(rest, root))
    return found


def closed(schema: Any) -> Any:
    """What its writer writes: no field that the schema does not declare."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    new = {
        keyword: {name: closed(s) for name, s in inner.items()}
        if keyword in ("properties", "patternProperties", "$defs")
        else inner
        if keyword in ("const", "enum")
        else closed(inner)
        for keyword, inner in schema.items()
    }
    if {"properties", "patternProperties"} & new.keys():
        new.setdefault("additionalProperties", False)
    return new
