"""FD7: within a major version nobody is broken: no replay, no older consumer, no caller.

Old events are read by new code, and new events by older consumers; commands of the old schema are
read by new code.
"""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from schemas.__main__ import render
from schemas.compatibility.check import find_command_breaks, find_event_breaks
from schemas.registry import REGISTRY, AnyMessage
from tests.kit.schemas.old_schema import (
    OLD,
    READERS,
    Old,
    Part,
    Size,
    Strict,
    command,
    edited,
    event,
    with_field,
)


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
