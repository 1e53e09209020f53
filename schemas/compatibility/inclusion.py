"""Whether a reader accepts whatever a writer may write, both described by a JSON Schema.

A writer writes the fields that its schema declares and no other ones, also where its schema would
allow others: `additionalProperties` has to be given for a map. A reader is what its schema says.

Where this cannot tell it says that the reader may refuse, so a change that it lets pass breaks
nobody. Weaknesses: two patterns are compared by their text, and so are keywords that it does not
know (`not`, `if`, `contains`, …); the arms of a `oneOf` without discriminator must exclude each
other by type or by a required constant.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas.compatibility.alternatives import (
    LOWER,
    UPPER,
    Part,
    Schema,
    SchemaNode,
    alternatives,
    canonical,
    names,
)
from schemas.compatibility.bounds import alike, number, size, string, values
from schemas.compatibility.exclusion import ambiguous
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
    """One writer against one reader.

    `lossless`: a reader that ignores a declared field, or fills in another default, counts as
    one that refuses it. `_assumed` are the pairs above in the tree: a schema that holds itself is
    compared once.
    """

    lossless: bool
    _assumed: set[tuple[int, int]] = field(default_factory=set)

    def refusals(self, writer: SchemaNode, reader: SchemaNode, path: str = "") -> list[Refusal]:
        """Each reason for which `reader` may refuse a document of `writer`; empty if none."""
        pair = (id(writer.schema), id(reader.schema))
        if pair in self._assumed or reader.schema is True or writer.same(reader):
            return []
        self._assumed.add(pair)
        try:
            return [*ambiguous(reader, path), *self._unions(writer, reader, path)]
        finally:
            self._assumed.discard(pair)

    def _unions(self, writer: SchemaNode, reader: SchemaNode, path: str) -> Iterator[Refusal]:
        arms = alternatives(reader)
        for way in alternatives(writer):
            tries = [self._way(writer, way, reader, arm, path) for arm in arms]
            if all(tries):
                yield from _nearest(way, arms, tries, path)

    def _way(
        self, writer: SchemaNode, way: list[Part], reader: SchemaNode, arm: list[Part], path: str
    ) -> list[Refusal]:
        """Every part of the reader's arm must follow from some part of the writer's way."""
        found: list[Refusal] = []
        for wanted in arm:
            tries = [list(self._part(writer, part, reader, wanted, path)) for part in way]
            found += shortest(tries)
        return found

    def _part(
        self, writer: SchemaNode, w: Part, reader: SchemaNode, r: Part, path: str
    ) -> Iterator[Refusal]:
        if not alike(w, r):
            yield Refusal(path, "type", _one(names(w)), _one(names(r)))
            return
        (kind,) = names(w)
        yield from values(w, r, path)
        for keyword in r.keys() - KNOWN:
            if keyword not in w or not writer.at(w[keyword]).same(reader.at(r[keyword])):
                yield Refusal(path, keyword, w.get(keyword), r[keyword])
        if kind == "string":
            yield from string(w, r, path)
        elif kind in ("integer", "number"):
            yield from number(w, r, path)
        elif kind == "array":
            yield from self._array(writer, w, reader, r, path)
        elif kind == "object":
            yield from self._object(writer, w, reader, r, path)

    def _array(
        self, writer: SchemaNode, w: Part, reader: SchemaNode, r: Part, path: str
    ) -> Iterator[Refusal]:
        most = w.get("maxItems", float("inf"))
        yield from size(w, r, "array", path)
        if r.get("uniqueItems") and not w.get("uniqueItems") and most > 1:
            yield Refusal(path, "uniqueItems", False, True)
        first = max(len(w.get("prefixItems", ())), len(r.get("prefixItems", ())))
        for place in range(first + 1):
            written = _item(w, place)
            if place < most and written is not False:
                inner = f"{path}[]" if place == first else f"{path}[{place}]"
                yield from self.refusals(writer.at(written), reader.at(_item(r, place)), inner)

    def _object(
        self, writer: SchemaNode, w: Part, reader: SchemaNode, r: Part, path: str
    ) -> Iterator[Refusal]:
        for name in sorted(set(r.get("required", ())) - set(w.get("required", ()))):
            yield Refusal(_below(path, name), "required", False, True)
        yield from _sizes(w, r, path)
        for name, written in w.get("properties", {}).items():
            if written is not False:
                yield from self._field(writer, w, reader, r, (name, written), path)
        for pattern, written in _open_fields(w):
            yield from self._fields(writer, w, reader, r, (pattern, written), path)

    def _field(
        self,
        writer: SchemaNode,
        w: Part,
        reader: SchemaNode,
        r: Part,
        field: tuple[str, Schema],
        path: str,
    ) -> Iterator[Refusal]:
        """One field by its name."""
        name, written = field
        inner = _below(path, name)
        declared = _declared(r, name)
        if not declared and _rest(r) is False:
            yield Refusal(inner, "unknown")
        elif not declared and self.lossless and _rest(r) is True and "properties" in r:
            yield Refusal(inner, "unknown", ignored=True)
        yield from self._name({"const": name}, writer, reader, r, inner)
        for read in declared or ([_rest(r)] if _rest(r) is not False else []):
            yield from self.refusals(writer.at(written), reader.at(read), inner)
        if self.lossless and name not in w.get("required", ()) and name in r.get("properties", {}):
            yield from _default(written, r["properties"][name], inner)

    def _fields(
        self,
        writer: SchemaNode,
        w: Part,
        reader: SchemaNode,
        r: Part,
        fields: tuple[str | None, Schema],
        path: str,
    ) -> Iterator[Refusal]:
        """All fields whose names match a pattern; of no pattern: those not named otherwise."""
        pattern, written = fields
        inner = _below(path, "*")
        name = [w.get("propertyNames", True), {"pattern": pattern} if pattern else True]
        yield from self._name({"allOf": name}, writer, reader, r, f"{inner} (its key)")
        for read in _read_as(w, r, pattern):
            if read is False:
                yield Refusal(inner, "unknown")
            elif read is True and self.lossless and _declares(r):
                yield Refusal(inner, "unknown", ignored=True)
            else:
                yield from self.refusals(writer.at(written), reader.at(read), inner)

    def _name(
        self, name: Schema, writer: SchemaNode, reader: SchemaNode, r: Part, path: str
    ) -> Iterable[Refusal]:
        if "propertyNames" not in r:
            return []
        text = {"type": "string"}
        written, read = {"allOf": [text, name]}, {"allOf": [text, r["propertyNames"]]}
        return self.refusals(writer.at(written), reader.at(read), path)


def _sizes(w: Part, r: Part, path: str) -> Iterator[Refusal]:
    """A writer's fields may bound their number without a keyword."""
    implied: Part = {"minProperties": len(w.get("required", ()))}
    if not list(_open_fields(w)):
        implied["maxProperties"] = len(w.get("properties", {}))
    bounds = {
        key: (min if key in UPPER else max)(value, w.get(key, value))
        for key, value in implied.items()
    }
    kept = {key: value for key, value in w.items() if key in UPPER | LOWER}
    yield from size(kept | bounds, r, "object", path)


def _item(part: Part, place: int) -> Schema:
    prefix: list[Schema] = part.get("prefixItems", [])
    rest: Schema = part.get("items", True)
    return prefix[place] if place < len(prefix) else rest


def _open_fields(w: Part) -> Iterator[tuple[str | None, Schema]]:
    """The fields of a writer that have no name in its schema: a pattern, or None, and the value."""
    yield from w.get("patternProperties", {}).items()
    closed = "properties" in w or "patternProperties" in w
    rest = w.get("additionalProperties", not closed)
    if rest is not False:
        yield None, rest


def _rest(r: Part) -> Schema:
    """What a reader makes of a field that it does not declare; a map with key rules refuses it."""
    rest: Schema = r.get("additionalProperties", "properties" in r or "patternProperties" not in r)
    return rest


def _declares(r: Part) -> bool:
    """Whether it names all that its reader makes use of."""
    return "properties" in r and "additionalProperties" not in r


def _declared(r: Part, name: str) -> list[Schema]:
    """All that a reader's schema declares of a field."""
    named = [r["properties"][name]] if name in r.get("properties", {}) else []
    patterns = r.get("patternProperties", {}).items()
    return [*named, *(schema for pattern, schema in patterns if re.search(pattern, name))]


def _read_as(w: Part, r: Part, pattern: str | None) -> Iterator[Schema]:
    """All that a reader may take such fields of the writer for."""
    patterns = r.get("patternProperties", {})
    own = w.get("patternProperties", {}).keys()
    yield from (read for other, read in patterns.items() if other == pattern or other not in own)
    for name, read in r.get("properties", {}).items():
        if name not in w.get("properties", {}) and _may_be(name, pattern, own):
            yield read
    if pattern is None or pattern not in patterns:
        yield _rest(r)


def _may_be(name: str, pattern: str | None, others: Iterable[str]) -> bool:
    if pattern is not None:
        return bool(re.search(pattern, name))
    return not any(re.search(other, name) for other in others)


def _default(written: Schema, read: Schema, path: str) -> Iterator[Refusal]:
    """Documents without the field must go on meaning the same."""
    before, after = _defaults(written), _defaults(read)
    if canonical(before) != canonical(after):
        yield Refusal(path, "default", _said(before), _said(after))


def _defaults(schema: Schema) -> list[Any]:
    """The default of a field, if it has one: it may be null."""
    return [schema["default"]] if isinstance(schema, dict) and "default" in schema else []


def _said(defaults: list[Any]) -> Any:
    """For a refusal, where None stands for no default at all."""
    return next(("null" if each is None else each for each in defaults), None)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _nearest(
    way: list[Part], arms: list[list[Part]], tries: list[list[Refusal]], path: str
) -> Iterable[Refusal]:
    """The reasons of the arm that comes nearest; without one of the same type: the type."""
    pairs = zip(arms, tries, strict=True)
    near = [(arm[0], found) for arm, found in pairs if alike(way[0], arm[0])]
    if not near:
        types = sorted({name for arm in arms for name in names(arm[0])})
        return [Refusal(path, "type", _one(names(way[0])), _one(types))]
    if all("const" in arm for arm, _ in near):
        named = [arm["const"] for arm, _ in near]
        return [Refusal(path, "enum", way[0].get("const"), named)]
    return shortest([found for _, found in near])


def _one(types: list[str]) -> str:
    return " or ".join(types) or "nothing"


def shortest(tries: list[list[Refusal]]) -> list[Refusal]:
    """The fewest reasons; the first of those that are as few."""
    return min(tries, key=lambda found: len(found))
