"""FD7: a narrower limit, or a replaced schema, is a break, and is named by field and keyword."""

import pytest

from schemas.compatibility.check import find_command_breaks, find_event_breaks
from tests.kit.schemas.old_schema import OLD, READERS, Old, edited
from tests.kit.schemas.schema_drawing import Schema

# The old schema with a limit made narrower, and what is said of it.
NARROWED: dict[str, tuple[Schema, str]] = {
    "enum": (
        edited("$defs", "Part", "properties", "colour", enum=["red", "green"]),
        'part.colour: enum blue -> ["red", "green"]',
    ),
    "enum to a constant": (
        edited("$defs", "Part", "properties", "colour", enum=None, const="red"),
        'part.colour: enum green -> ["red"]',
    ),
    "maxLength": (edited("properties", "name", maxLength=5), "name: maxLength 500 -> 5"),
    "minLength": (edited("properties", "name", minLength=2), "name: minLength 1 -> 2"),
    "minimum": (edited("properties", "count", minimum=10), "count: minimum 0 -> 10"),
    "maximum": (edited("properties", "count", maximum=99), "count: maximum 100 -> 99"),
    "exclusiveMaximum": (
        edited("properties", "count", exclusiveMaximum=100),
        "count: exclusiveMaximum 100 -> 100",
    ),
    "multipleOf": (edited("properties", "count", multipleOf=2), "count: multipleOf 1 -> 2"),
    "pattern": (edited("properties", "name", pattern="^a"), "name: pattern none -> ^a"),
    "format": (edited("properties", "name", format="uuid"), "name: format none -> uuid"),
    "uniqueItems": (
        edited("properties", "tags", uniqueItems=True),
        "tags: uniqueItems false -> true",
    ),
    "maxItems": (edited("properties", "tags", maxItems=3), "tags: maxItems none -> 3"),
    "minItems": (edited("properties", "tags", minItems=1), "tags: minItems none -> 1"),
    "items": (
        edited("properties", "tags", items={"type": "string", "maxLength": 3}),
        "tags[]: maxLength none -> 3",
    ),
    "number of keys": (
        edited("properties", "words", maxProperties=3),
        "words: maxProperties none -> 3",
    ),
    "length of keys": (
        edited("properties", "words", "propertyNames", maxLength=5),
        "words.* (its key): maxLength 50 -> 5",
    ),
    "keys of a free map": (
        edited("properties", "notes", propertyNames={"maxLength": 5}),
        "notes.* (its key): maxLength none -> 5",
    ),
    "values of a map": (
        edited(
            "properties", "words", "patternProperties", "^[a-z]+$", maxLength=3,
        ),
        "words.*: maxLength none -> 3",
    ),
    "an arm of a union": (
        edited("properties", "notes", additionalProperties={"type": "string"}),
        "notes.*: retyped: boolean -> string",
    ),
    "not null": (
        edited("properties", "note", anyOf=[{"type": "string"}]),
        "note: retyped: null -> string",
    ),
    "within itself": (
        edited("$defs", "Tree", "properties", "name", maxLength=5),
        "tree.name: maxLength 10 -> 5",
    ),
    "allOf": (
        edited("properties", "name", allOf=[{"maxLength": 5}]),
        "name: maxLength 500 -> 5",
    ),
    "a keyword that is not known here": (
        edited("properties", "name", **{"not": {"const": "a"}}),
        'name: not none -> {"const": "a"}',
    ),
}  # fmt: skip


# Changes that no reader of either schema gets over.
REPLACED: dict[str, tuple[Schema, str]] = {
    "a list to a pair": (
        edited("properties", "tags", prefixItems=[{"type": "integer"}]),
        "tags[0]: retyped: string -> integer",
    ),
    "pattern of keys": (
        edited(
            "properties", "words", patternProperties={"^[a-m]+$": {"type": "string"}},
        ),
        "words.*: removed",
    ),
    "another field of a part": (
        edited("$defs", "Size", "properties", width=None, other={"type": "string"}),
        "part.size.width: removed",
    ),
}  # fmt: skip


BREAKS = NARROWED | REPLACED


@pytest.mark.parametrize(("new", "told"), BREAKS.values(), ids=BREAKS)
def test_what_is_narrowed_breaks_old_documents(new: Schema, told: str) -> None:
    """Of commands and of events alike."""
    old = Old.model_json_schema()
    assert f"{told} ({OLD})" in list(find_command_breaks(old, new))
    assert f"{told} ({OLD})" in list(find_event_breaks(old, new))


@pytest.mark.parametrize("new", [new for new, _ in NARROWED.values()], ids=NARROWED)
def test_what_is_widened_breaks_the_old_readers_of_an_event_only(new: Schema) -> None:
    """The same changes the other way round; a caller of the old schema does not notice."""
    old = Old.model_json_schema()
    assert any(READERS in line for line in find_event_breaks(new, old))
    removed = [line for line in find_command_breaks(new, old) if "removed" not in line]
    assert removed == []
