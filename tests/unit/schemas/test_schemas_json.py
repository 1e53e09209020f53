"""FD7: the committed schemas agree with the code; a break is reported and nothing is written."""

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
    """Commit a field that the code does not have."""
    schema["properties"]["colour"] = {"type": "string"}


def retype_a_field(schema: dict[str, Any]) -> None:
    schema["properties"]["name"]["type"] = "integer"


def retype_the_attributes(schema: dict[str, Any]) -> None:
    pattern = schema["properties"]["attributes"]["patternProperties"]
    pattern[next(iter(pattern))] = {"type": "array"}


def require_a_field(schema: dict[str, Any]) -> None:
    schema["required"].remove("text")


PLANTED = [
    pytest.param(remove_a_field, "colour: removed", id="removed"),
    pytest.param(retype_a_field, "name: retyped", id="retyped"),
    pytest.param(retype_the_attributes, r"attributes.*: retyped", id="values retyped"),
    pytest.param(require_a_field, "text: newly required", id="newly required"),
]


@pytest.mark.parametrize(("plant", "complaint"), PLANTED)
def test_a_planted_break_is_reported(
    folder: Path, plant: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    edit(folder, plant)
    assert any(line.startswith(f"{ItemUpserted.type}: {complaint}") for line in check(folder))


@pytest.mark.parametrize(("plant", "complaint"), PLANTED)
def test_a_break_is_refused_and_nothing_is_written(
    folder: Path, plant: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    edit(folder, plant)
    before = (folder / FILE).read_bytes()
    with pytest.raises(SystemExit, match=re.escape(complaint)):
        write(folder)
    assert (folder / FILE).read_bytes() == before


def test_an_addition_is_written(folder: Path) -> None:
    edit(folder, lambda schema: schema["properties"].pop("attributes"))
    write(folder)
    assert check(folder) == []


SPOILED = {
    "empty": b"",
    "cut short": b'{"properties": {',
    "a merge's marks": b"<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n",
    "another encoding": '{"title": "x"}'.encode("utf-16"),
    "nothing": b"null",
    "a list": b"[]",
    "a type that is none": b'{"type": 5}',
    "fields that are a list": b'{"type": "object", "properties": ["a"]}',
    "a reference to nowhere": b'{"$ref": "#/$defs/Nowhere"}',
    "a reference to elsewhere": b'{"$ref": "https://example.org/schema"}',
    "a reference to itself": b'{"$ref": "#"}',
}


@pytest.mark.parametrize("content", SPOILED.values(), ids=SPOILED)
def test_a_file_that_is_no_schema_is_one_line_and_stays_as_it_is(
    folder: Path, content: bytes
) -> None:
    (folder / FILE).write_bytes(content)
    told = [line for line in check(folder) if "must be a JSON Schema" in line]
    assert [line.partition(":")[0] for line in told] == [FILE]
    assert told[0].isprintable()
    assert told[0].endswith("restore it as it was committed")
    with pytest.raises(SystemExit, match="must be a JSON Schema"):
        write(folder)
    assert (folder / FILE).read_bytes() == content


def test_a_folder_of_that_name_is_one_line(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / FILE).mkdir()
    assert any("must be a JSON Schema" in line for line in check(folder))


@pytest.mark.parametrize("argument", ["--chekc", "--help", "-h", "", "x\x1b[2J"])
def test_an_unknown_argument_writes_nothing(
    argument: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("schemas.__main__.write", pytest.fail)
    assert main([argument]) == 2
    told = capsys.readouterr()
    assert (told.out, len(told.err.splitlines())) == ("", 1)
    assert "must be --check" in told.err
    assert told.err.rstrip("\n").isprintable()
