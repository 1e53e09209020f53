"""FD7: within a major version nobody is broken: no replay, no older consumer, no caller.

Old events are read by new code, and new events by older consumers; commands of the old schema are
read by new code.
"""

import json
from typing import Annotated, Any, Literal

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from schemas.__main__ import render
from schemas.compatibility.alternatives import SchemaNode
from schemas.compatibility.check import find_command_breaks, find_event_breaks
from schemas.compatibility.inclusion import Comparison
from schemas.registry import REGISTRY, AnyMessage
from tests.kit.schema_drawing import Schema, changed, closed, documents, schemas

OLD = "the new schema would refuse documents of the old one"
READERS = "readers of the old schema would refuse new documents"


class Size(BaseModel):
    unit: str
    width: int = 1


class Part(BaseModel):
    size: Size
    colour: Literal["red", "green", "blue"] = "red"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    item: str


class Tree(BaseModel):
    name: Annotated[str, Field(max_length=10)]
    below: "list[Tree]" = Field(default_factory=list)


Key = Annotated[str, Field(pattern="^[a-z]+$", max_length=50)]


class Old(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=500)]
    part: Part
    tags: tuple[str, ...] = ()
    note: str | None = None
    notes: dict[str, str | bool] = Field(default_factory=dict)
    words: dict[Key, str] = Field(default_factory=dict)
    count: Annotated[int, Field(ge=0, le=100)] = 0
    strict: tuple[Strict, ...] = ()
    tree: Tree | None = None


def event(new: type[BaseModel], old: type[BaseModel] = Old) -> list[str]:
    return list(find_event_breaks(old.model_json_schema(), new.model_json_schema()))


def command(new: type[BaseModel], old: type[BaseModel] = Old) -> list[str]:
    return list(find_command_breaks(old.model_json_schema(), new.model_json_schema()))


def with_field(name: str, kind: Any, *default: Any, base: type[BaseModel] = Old) -> type[BaseModel]:
    """The old model with one field declared anew."""
    annotations = {"__annotations__": {name: kind}}
    return type("New", (base,), annotations | ({name: default[0]} if default else {}))


def edited(*path: str | int, **changes: Any) -> Schema:
    """The old schema with some keywords changed at a path; None takes a keyword away."""
    new: Schema = json.loads(json.dumps(Old.model_json_schema()))
    node: Any = new
    for step in path:
        node = node[step]
    for keyword, value in changes.items():
        node[keyword] = value
        if value is None:
            del node[keyword]
    return new


def test_the_same_schema_breaks_nothing() -> None:
    assert event(Old) == command(Old) == []


def test_an_optional_field_may_be_added() -> None:
    new = with_field("colour", str, "red")
    assert event(new) == command(new) == []


def test_an_optional_field_may_be_added_to_a_part() -> None:
    class Size2(Size):
        depth: int = 1

    class Part2(Part):
        size: Size2

    new = with_field("part", Part2)
    assert event(new) == command(new) == []


def test_another_definition_breaks_nothing() -> None:
    new = edited("$defs", Other={"type": "object", "properties": {}})
    old = Old.model_json_schema()
    assert [*find_event_breaks(old, new), *find_command_breaks(old, new)] == []


def test_words_and_names_may_change() -> None:
    """A definition's own name, too: only where it is looked up says what it is."""

    class Renamed(Part):
        """Described."""

    new = with_field("part", Annotated[Renamed, Field(description="Short.")])
    assert event(new) == command(new) == []


def test_a_removed_field_is_a_break_at_any_depth() -> None:
    class Size2(BaseModel):
        unit: str

    class Part2(BaseModel):
        size: Size2
        colour: Literal["red", "green", "blue"] = "red"

    new = with_field("part", Part2)
    assert event(new) == command(new) == [f"part.size.width: removed ({OLD})"]


def test_a_removed_field_is_told_once() -> None:
    """Readers of the old schema require it, too."""
    new = edited("properties", name=None)
    new["required"].remove("name")
    assert list(find_event_breaks(Old.model_json_schema(), new)) == [f"name: removed ({OLD})"]


def test_a_new_required_field_is_a_break() -> None:
    new = with_field("colour", str)
    assert event(new) == command(new) == [f"colour: newly required ({OLD})"]


def test_a_required_field_may_become_optional_in_a_command_only() -> None:
    new = edited(required=["part"])
    old = Old.model_json_schema()
    assert list(find_command_breaks(old, new)) == []
    assert list(find_event_breaks(old, new)) == [f"name: no longer required ({READERS})"]


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


@pytest.mark.parametrize(
    ("field", "kind", "default", "told"),
    [
        ("name", int, (), "name: retyped: string -> integer"),
        ("part", str, (), "part: retyped: object -> string"),
        ("tags", tuple[int, ...], ((),), "tags[]: retyped: string -> integer"),
        ("tags", str, ("",), "tags: retyped: array -> string"),
        ("note", int | None, (None,), "note: retyped: string -> integer or null"),
        ("notes", dict[str, int], ({},), "notes.*: retyped: string -> integer"),
    ],
)
def test_a_retyped_field_is_a_break(field: str, kind: Any, default: Any, told: str) -> None:
    new = with_field(field, kind, *default)
    assert f"{told} ({OLD})" in command(new)
    assert f"{told} ({OLD})" in event(new)


def test_a_whole_number_may_become_any_number_in_a_command_only() -> None:
    new = with_field("count", Annotated[float, Field(ge=0, le=100)], 0)
    assert command(new) == []
    assert event(new) == [f"count: retyped: integer -> number ({READERS})"]


def test_another_default_is_a_break() -> None:
    """Documents without the field would change their meaning."""
    new = with_field("count", Annotated[int, Field(ge=0, le=100)], 7)
    assert event(new) == command(new) == [f"count: default 0 -> 7 ({OLD})"]


def test_a_default_of_null_is_told_from_none() -> None:
    new = with_field("note", str | None, "x")
    assert command(new) == [f"note: default null -> x ({OLD})"]


def test_a_field_added_to_a_part_that_refuses_unknown_ones_breaks_the_readers_of_an_event() -> None:
    class Strict2(Strict):
        more: str = ""

    new = with_field("strict", tuple[Strict2, ...], ())
    assert command(new) == []
    assert event(new) == [f"strict[].more: added ({READERS})"]


def test_another_topic_is_a_break() -> None:
    told = "x-topic: a -> b (readers of the old topic would miss it)"
    assert list(find_event_breaks({"x-topic": "a"}, {"x-topic": "b"})) == [told]
    assert list(find_command_breaks({"x-topic": "a"}, {"x-topic": "b"})) == [told]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Fish(BaseModel):
    kind: Literal["fish"] = "fish"


def test_the_arms_of_a_union_are_compared_one_by_one() -> None:
    class Dog2(Dog):
        name: Annotated[str, Field(max_length=5)]

    new = with_field("pet", Annotated[Cat | Dog2, Field(discriminator="kind")], base=Pet)
    assert command(new, Pet) == [f"pet.name: maxLength none -> 5 ({OLD})"]


def test_an_arm_may_be_added_to_a_union_of_a_command_only() -> None:
    new = with_field("pet", Annotated[Cat | Dog | Fish, Field(discriminator="kind")], base=Pet)
    assert command(new, Pet) == []
    assert any("pet.kind" in line for line in event(new, Pet))


def test_a_removed_arm_of_a_union_is_a_break() -> None:
    new = with_field("pet", Annotated[Cat | Fish, Field(discriminator="kind")], base=Pet)
    assert any("pet.kind" in line and OLD in line for line in command(new, Pet))


def test_true_is_not_one() -> None:
    old, new = {"enum": [True, "a"]}, {"enum": [1, "a"]}
    assert list(find_command_breaks(old, new)) == [
        f"document: retyped: boolean -> integer or string ({OLD})"
    ]


@pytest.mark.parametrize("message", list(REGISTRY), ids=lambda message: message.type)
def test_each_message_of_ours_may_gain_a_field(message: AnyMessage) -> None:
    old = json.loads(render(message))
    new = json.loads(render(message))
    new["properties"]["newer"] = {"type": "string", "maxLength": 3, "default": ""}
    assert [*find_event_breaks(old, new)] == [] or old.get("additionalProperties") is False
    assert [*find_command_breaks(old, new)] == []


QUICK = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@QUICK
@given(st.data(), schemas())
def test_a_document_that_the_reader_refuses_is_always_foreseen(
    data: st.DataObject, writer: Schema
) -> None:
    """Against an independent validator: no change passes that breaks a drawn document."""
    reader = data.draw(changed(writer))
    found = Comparison(lossless=False).find_refusals(
        SchemaNode(writer, writer), SchemaNode(reader, reader)
    )
    writes = jsonschema_rs.validator_for(closed(writer))
    reads = jsonschema_rs.validator_for(reader)
    for _ in range(8):
        document = data.draw(documents(writer, writer))
        if writes.is_valid(document) and not reads.is_valid(document):
            assert found, document


@QUICK
@given(schemas())
def test_a_schema_breaks_no_document_of_its_own(schema: Schema) -> None:
    """Also where its text differs; a `oneOf` with arms that overlap cannot be told."""
    other = json.loads(json.dumps(schema))
    other["$defs"]["Other"] = {}
    found = Comparison(lossless=True).find_refusals(
        SchemaNode(schema, schema), SchemaNode(other, other)
    )
    assert all(refusal.keyword == "oneOf" for refusal in found)
