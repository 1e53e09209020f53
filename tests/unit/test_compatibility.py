"""Compatibility: within a major version fields are added; none is removed, retyped or required."""

from typing import Any

import pytest
from pydantic import BaseModel, Field

from schemas.compatibility import breaks


class Part(BaseModel):
    size: int


class OtherPart(BaseModel):
    size: int


class Old(BaseModel):
    name: str
    part: Part
    tags: tuple[str, ...] = ()
    note: str | None = None
    notes: dict[str, str | bool] = Field(default_factory=dict)


def changes(new: type[BaseModel]) -> list[str]:
    return list(breaks(Old.model_json_schema(), new.model_json_schema()))


def test_the_same_schema_breaks_nothing() -> None:
    assert changes(Old) == []


def test_an_optional_field_may_be_added() -> None:
    class New(Old):
        colour: str = "red"

    assert changes(New) == []


def test_limits_and_words_may_change() -> None:
    class New(Old):
        """Described."""

        name: str = Field(max_length=5, description="Short.")

    assert changes(New) == []


def test_a_required_field_may_become_optional() -> None:
    class New(Old):
        name: str = "nobody"

    assert changes(New) == []


def test_a_removed_field_is_a_break() -> None:
    class New(BaseModel):
        name: str
        part: Part
        note: str | None = None
        notes: dict[str, str | bool] = Field(default_factory=dict)

    assert changes(New) == ["tags: removed"]


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("name", int),
        ("name", str | None),
        ("part", OtherPart),
        ("tags", tuple[int, ...]),
        ("tags", str),
        ("note", int | None),
        ("note", str),
        ("notes", dict[str, int]),
        ("notes", dict[str, str]),
    ],
)
def test_a_retyped_field_is_a_break(field: str, kind: Any) -> None:
    default: dict[str, Any] = {} if field in {"name", "part"} else {field: None}
    new = type("New", (Old,), {"__annotations__": {field: kind}, **default})
    assert changes(new) == [f"{field}: retyped"]


def test_a_new_required_field_is_a_break() -> None:
    class New(Old):
        colour: str

    assert changes(New) == ["colour: newly required"]


def test_a_break_inside_a_part_is_named_with_its_part() -> None:
    old = {"$defs": {"Part": Part.model_json_schema()}}
    new = {"$defs": {"Part": {"properties": {"size": {"type": "string"}}, "required": ["x"]}}}
    assert list(breaks(old, new)) == ["Part.size: retyped", "Part.x: newly required"]
