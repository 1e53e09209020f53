"""A part and its settings never show a password."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from stack.part import Part
from stack.settings import StackSettings


def test_a_part_shows_its_address_and_no_password() -> None:
    url = "postgresql://me:hunter2@db.example:5432/main?password=hunter2"
    part = Part(name="postgres", provider="environment POSTGRES_URL", url=url)
    assert part.address == "postgresql://db.example:5432/main"
    assert "hunter2" not in repr(part)


@pytest.mark.parametrize("url", ["127.0.0.1:9092", "file:/tmp/qdrant", ":memory:"])
def test_what_is_no_url_with_a_host_is_shown_as_it_is(url: str) -> None:
    assert Part(name="kafka", provider="", url=url).address == url


def test_the_password_comes_from_the_variable_or_the_file(folder: Path) -> None:
    file = folder / "password"
    file.write_text("from the file\n")
    of_file = StackSettings(neo4j_password=None, neo4j_password_file=file)
    assert of_file.graph_password().get_secret_value() == "from the file"
    both = StackSettings.model_validate({"neo4j_password": "given", "neo4j_password_file": file})
    assert both.graph_password().get_secret_value() == "given"


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_READY_TIMEOUT_SECONDS", "0")
    with pytest.raises(ValidationError, match="greater than 0"):
        StackSettings()
