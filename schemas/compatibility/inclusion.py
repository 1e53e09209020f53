"""Inclusion: whether a reader accepts whatever a writer may write, each described by a JSON Schema.

A writer writes the fields that its schema declares and no others, even where its schema would allow
others; a map needs `additionalProperties`. A reader accepts exactly what its schema says.

Where the comparison cannot decide, it says that the reader may refuse; so a change that it lets
pass breaks nobody. Weaknesses: two patterns are compared by their text, and so are keywords that it
does not know (`not`, `if`, `contains`, …); the arms of a `oneOf` without discriminator must exclude
each other by type or by a required constant.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas.compatibility import bounds
from schemas.compatibility.alternatives import (
    LOWER,
    UPPER,
    Part,
    Schema,
    SchemaNode,
    list_alternatives,
    list_types,
    render_canonical,
)
from schemas.compatibility.exclusion import find_overlaps
from schemas.compatibility.refusal import Refusal

OF_TYPE = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "array": {"minItems", "maxItems", "uniqueItems", "items", "prefixItems"},
    "object": {
        "minProperties", "maxProperties", "properties", "patternProperties",
        "additionalProperties", "propertyNames", "required",
    },
}  # fmt: skip
KNOWN = {"type", "const", "enum"}.union(*OF_TYPE.values())


@dataclass(frozen=True)
class Comparison:
    """Compares one writer with one reader.

    With `lossless`, a reader that ignores a declared field, or fills in another default, counts as
    one that refuses it. `_assumed` holds the pairs that are being compared further up in the tree,
    so that a schema which contains itself is compared once.
    """

    lossless: bool
    _assumed: set[tuple[int, int]] = field(default_factory=set)

    def find_refusals(
        self, writer: SchemaNode, reader: SchemaNode, path: str = ""
    ) -> list[Refusal]:
        """Each reason why `reader` may refuse a document of `writer`; empty if there is none."""
        pair = (id(writer.schema), id(reader.schema))
        if pair in self._assumed or reader.schema is True or writer.same(reader):
            return []
        self._assumed.add(pair)
        try:
            return [*find_overlaps(reader, path), *self._compare_unions(writer, reader, path)]
        finally:
            self._assumed.discard(pair)

    def _compare_unions(
        self, writer: SchemaNode, reader: SchemaNode, path: str
    ) -> Iterator[Refusal]:
        arms = list_alternatives(reader)
        for way in list_alternatives(writer):
            tries = [self._compare_way(writer, way, reader, arm, path) for arm in arms]
            if all(tries):
                yield from _pick_nearest(way, arms, tries, path)

    def _compare_way(
        self, writer: SchemaNode, way: list[Part], reader: SchemaNode, arm: list[Part], path: str
    ) -> list[Refusal]:
        """Every part of the reader's arm must follow from some part of the writer's way."""
        found: list[Refusal] = []
        for wanted in arm:
            tries = [list(self._compare_part(writer, part, reader, wanted, path)) for part in way]
            found += _pick_shortest(tries)
        return found

    def _compare_part(
        self, writer: SchemaNode, w: Part, reader: SchemaNode, r: Part, path: str
    ) -> Iterator[Refusal]:
        if not bounds.accepts_type(w, r):
            yield Refusal(path, "type", _join_types(list_types(w)), _join_types(list_types(r)))
            return
        (kind,) = list_types(w)
        yield from bounds.compare_values(w, r, path)
        for keyword in r.keys() - KNOWN:
            if keyword not in w or not writer.at(w[keyword]).same(reader.at(r[keyword])):
                yield Refusal(path, keyword, w.get(keyword), r[keyword])
        if kind == "string":
            yield from bounds.compare_strings(w, r, path)
        elif kind in ("integer", "number"):
            yield from bounds.compare_numbers(w, r, path)
        elif kind == "array":
            yield from self._compare_arrays(writer, w, reader, r, path)
        elif kind == "object":
            yield from self._compare_objects(writer, w, reader, r, path)

    def _compare_arrays(
        self, writer: SchemaNode, w: Part, reader: SchemaNode, r: Part, path: str
    ) -> Iterator[Refusal]:
        most = w.get("maxItems", float("inf"))
        yield from bounds.compare_sizes(w, r, "array", path)
        if r.get("uniqueItems") and not w.get("uniqueItems") and most > 1:
            yield Refusal(path, "uniqueItems", False, True)
        first = max(len(w.get("prefixItems", ())), len(r.get("prefixItems", ())))
        for place in range(first + 1):
            written = _find_item_schema(w, place)
            if place < most and written is not False:
                inner = f"{path}[]" if place == first else f"{path}[{place}]"
                yield from self.find_refusals(
                    writer.at(written), reader.at(_find_item_schema(r, place)), inner
                )

    def _compare_objects(
        self, writer: SchemaNode, w: Part, reader: SchemaNode, r: Part, path: str
    ) -> Iterator[Refusal]:
        for name in sorted(set(r.get("required", ())) - set(w.get("required", ()))):
            yield Refusal(_join(path, name), "required", False, True)
        yield from _compare_field_counts(w, r, path)
        for name, written in w.get("properties", {}).items():
            if written is not False:
                yield from self._compare_field(writer, w, reader, r, (name, written), path)
        for pattern, written in _list_open_fields(w):
            yield from self._compare_fields(writer, w, reader, r, (pattern, written), path)

    def _compare_field(
        self,
        writer: SchemaNode,
        w: Part,
        reader: SchemaNode,
        r: Part,
        field: tuple[str, Schema],
        path: str,
    ) -> Iterator[Refusal]:
        """Compare one field, which the writer declares by its name."""
        name, written = field
        inner = _join(path, name)
        declared = _list_declared(r, name)
        if not declared and _find_rest(r) is False:
            yield Refusal(inner, "unknown")
        elif not declared and self.lossless and _find_rest(r) is True and "properties" in r:
            yield Refusal(inner, "unknown", ignored=True)
        yield from self._compare_names({"const": name}, writer, reader, r, inner)
        for read in declared or ([_find_rest(r)] if _find_rest(r) is not False else []):
            yield from self.find_refusals(writer.at(written), reader.at(read), inner)
        if self.lossless and name not in w.get("required", ()) and name in r.get("properties", {}):
            yield from _compare_defaults(written, r["properties"][name], inner)

    def _compare_fields(
        self,
        writer: SchemaNode,
        w: Part,
        reader: SchemaNode,
        r: Part,
        fields: tuple[str | None, Schema],
        path: str,
    ) -> Iterator[Refusal]:
        """Compare all fields whose names match a pattern; None: all that are not declared."""
        pattern, written = fields
        inner = _join(path, "*")
        name = [w.get("propertyNames", True), {"pattern": pattern} if pattern else True]
        yield from self._compare_names({"allOf": name}, writer, reader, r, f"{inner} (its key)")
        for read in _list_readings(w, r, pattern):
            if read is False:
                yield Refusal(inner, "unknown")
            elif read is True and self.lossless and _declares_all(r):
                yield Refusal(inner, "unknown", ignored=True)
            else:
                yield from self.find_refusals(writer.at(written), reader.at(read), inner)

    def _compare_names(
        self, name: Schema, writer: SchemaNode, reader: SchemaNode, r: Part, path: str
    ) -> Iterable[Refusal]:
        if "propertyNames" not in r:
            return []
        text = {"type": "string"}
        written, read = {"allOf": [text, name]}, {"allOf": [text, r["propertyNames"]]}
        return self.find_refusals(writer.at(written), reader.at(read), path)


def _compare_field_counts(w: Part, r: Part, path: str) -> Iterator[Refusal]:
    """Compare how many fields there may be; a writer's declared fields imply bounds."""
    implied: Part = {"minProperties": len(w.get("required", ()))}
    if not list(_list_open_fields(w)):
        implied["maxProperties"] = len(w.get("properties", {}))
    counts = {
        key: (min if key in UPPER else max)(value, w.get(key, value))
        for key, value in implied.items()
    }
    kept = {key: value for key, value in w.items() if key in UPPER | LOWER}
    yield from bounds.compare_sizes(kept | counts, r, "object", path)


def _find_item_schema(part: Part, place: int) -> Schema:
    prefix: list[Schema] = part.get("prefixItems", [])
    rest: Schema = part.get("items", True)
    return prefix[place] if place < len(prefix) else rest


def _list_open_fields(w: Part) -> Iterator[tuple[str | None, Schema]]:
    """The fields that a writer's schema does not name: a pattern or None, and the schema."""
    yield from w.get("patternProperties", {}).items()
    closed = "properties" in w or "patternProperties" in w
    rest = w.get("additionalProperties", not closed)
    if rest is not False:
        yield None, rest


def _find_rest(r: Part) -> Schema:
    """The reader's schema of a field that it does not declare; a map with key rules refuses it."""
    rest: Schema = r.get("additionalProperties", "properties" in r or "patternProperties" not in r)
    return rest


def _declares_all(r: Part) -> bool:
    """Whether the schema names every field that its reader uses."""
    return "properties" in r and "additionalProperties" not in r


def _list_declared(r: Part, name: str) -> list[Schema]:
    """Each schema that a reader's schema declares for a field."""
    named = [r["properties"][name]] if name in r.get("properties", {}) else []
    patterns = r.get("patternProperties", {}).items()
    return [*named, *(schema for pattern, schema in patterns if re.search(pattern, name))]


def _list_readings(w: Part, r: Part, pattern: str | None) -> Iterator[Schema]:
    """Each schema by which a reader may read the writer's fields of this pattern."""
    patterns = r.get("patternProperties", {})
    own = w.get("patternProperties", {}).keys()
    yield from (read for other, read in patterns.items() if other == pattern or other not in own)
    for name, read in r.get("properties", {}).items():
        if name not in w.get("properties", {}) and _may_be(name, pattern, own):
            yield read
    if pattern is None or pattern not in patterns:
        yield _find_rest(r)


def _may_be(name: str, pattern: str | None, others: Iterable[str]) -> bool:
    if pattern is not None:
        return bool(re.search(pattern, name))
    return not any(re.search(other, name) for other in others)


def _compare_defaults(written: Schema, read: Schema, path: str) -> Iterator[Refusal]:
    """Compare the defaults: documents without the field must keep their meaning."""
    before, after = _defaults(written), _defaults(read)
    if render_canonical(before) != render_canonical(after):
        yield Refusal(path, "default", _show(before), _show(after))


def _defaults(schema: Schema) -> list[Any]:
    """The default of a field as a list, which is empty if it has none; a default may be null."""
    return [schema["default"]] if isinstance(schema, dict) and "default" in schema else []


def _show(defaults: list[Any]) -> Any:
    """The default as a Refusal shows it, where None stands for no default at all."""
    return next(("null" if each is None else each for each in defaults), None)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _pick_nearest(
    way: list[Part], arms: list[list[Part]], tries: list[list[Refusal]], path: str
) -> Iterable[Refusal]:
    """The reasons of the arm that comes nearest; without an arm of the same type, the type."""
    pairs = zip(arms, tries, strict=True)
    near = [(arm[0], found) for arm, found in pairs if bounds.accepts_type(way[0], arm[0])]
    if not near:
        types = sorted({name for arm in arms for name in list_types(arm[0])})
        return [Refusal(path, "type", _join_types(list_types(way[0])), _join_types(types))]
    if all("const" in arm for arm, _ in near):
        named = [arm["const"] for arm, _ in near]
        return [Refusal(path, "enum", way[0].get("const"), named)]
    return _pick_shortest([found for _, found in near])


def _join_types(types: list[str]) -> str:
    return " or ".join(types) or "nothing"


def _pick_shortest(tries: list[list[Refusal]]) -> list[Refusal]:
    """The shortest list of reasons; the first one of several."""
    return min(tries, key=lambda found: len(found))
