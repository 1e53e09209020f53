"""The committed schemas say what the code says, and a break is reported before it is written."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from schemas.__main__ import FOLDER, check, main, write
from schemas.catalog import ItemUpserted
from schemas.registry import REGISTRY

FILE = f"{ItemUpserted.type}.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what is committed."""
    return Path(copytree(FOLDER, tmp_path / "json"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Pretend that something else was committed."""
    schema = json.loads((folder / FILE).read_text(encoding="utf-8"))
    change(schema)
    (folder / FILE).write_text(json.dumps(schema), encoding="utf-8")


def test_what_is_committed_equals_the_code() -> None:
    assert check(FOLDER) == []
    assert main(["--check"]) == 0


def test_there_is_one_file_a_type() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{cls.type}.json" for cls in REGISTRY}


def test_writing_into_an_empty_folder_gives_what_is_committed(tmp_path: Path) -> None:
    write(tmp_path)
    assert check(tmp_path) == []
    assert (tmp_path / FILE).read_bytes() == (FOLDER / FILE).read_bytes()


def test_a_missing_file_is_reported(folder: Path) -> None:
    (folder / FILE).unlink()
    assert check(folder) == [f"{FILE}: differs from the code; run `make schemas`"]


def test_a_file_of_no_type_is_reported(folder: Path) -> None:
    (folder / "catalog.gone.v1.json").write_text("{}", encoding="utf-8")
    assert check(folder) == ["catalog.gone.v1.json: no such type in the code"]


def remove_a_field(schema: dict[str, Any]) -> None:
    """The code lacks what was committed."""
    schema["properties"]["colour"] = {"type": "string"}


def retype_a_field(schema: dict[str, Any]) -> None:
    schema["properties"]["name"]["type"] = "integer"


def retype_the_attributes(schema: dict[str, Any]) -> None:
    pattern = schema["properties"]["attributes"]["patternProperties"]
    pattern[next(iter(pattern))] = {"type": "string"}


def require_a_field(schema: dict[str, Any]) -> None:
    schema["required"].remove("text")


PLANTED = [
    pytest.param(remove_a_field, "colour: removed", id="removed"),
    pytest.param(retype_a_field, "name: retyped", id="retyped"),
    pytest.param(retype_the_attributes, r"attributes\.\*: retyped", id="values retyped"),
    pytest.param(require_a_field, "text: newly required", id="newly required"),
]


@pytest.mark.parametrize(("plant", "complaint"), PLANTED)
def test_a_planted_break_is_reported(
    folder: Path, plant: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    edit(folder, plant)
    expected = re.compile(rf"{re.escape(ItemUpserted.type)}: {complaint}")
    assert any(map(expected.match, check(folder)))


@pytest.mark.parametrize(("plant", "complaint"), PLANTED)
def test_a_break_is_refused_and_nothing_is_written(
    folder: Path, plant: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    edit(folder, plant)
    before = (folder / FILE).read_bytes()
    with pytest.raises(SystemExit, match=complaint):
        write(folder)
    assert (folder / FILE).read_bytes() == before


def test_an_addition_is_written(folder: Path) -> None:
    edit(folder, lambda schema: schema["properties"].pop("attributes"))
    write(folder)
    assert check(folder) == []
