"""What would break a reader of an older schema of the same major version."""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]


def breaks(old: Schema, new: Schema, path: str = "") -> Iterator[str]:
    """Each breaking change from `old` to `new`, as `field: what happened`."""
    yield from _objects(old, new, path)
    for name, definition in old.get("$defs", {}).items():
        newer = new.get("$defs", {}).get(name)
        if newer is not None:
            yield from _objects(definition, newer, f"{name}.")


def _objects(old: Schema, new: Schema, path: str) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name, field in before.items():
        if name not in after:
            yield f"{path}{name}: removed"
        elif _kind(field) != _kind(after[name]):
            yield f"{path}{name}: retyped"
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        yield f"{path}{name}: newly required"


def _kind(field: Schema) -> Any:
    """What a field is, without its limits and words: those may change within a version."""
    if "anyOf" in field:
        return sorted(str(_kind(option)) for option in field["anyOf"])
    return field.get("$ref") or (field.get("type"), [_kind(inner) for inner in _inside(field)])


def _inside(field: Schema) -> list[Schema]:
    """What a list's items and a map's values are, whatever pattern the map's keys follow."""
    inner = [field.get("items"), field.get("additionalProperties")]
    inner += field.get("patternProperties", {}).values()
    return [schema for schema in inner if isinstance(schema, dict)]
