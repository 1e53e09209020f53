"""A schema, as a model, that the tests of compatibility change."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.compatibility.check import find_command_breaks, find_event_breaks
from tests.kit.schemas.schema_drawing import Schema

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
