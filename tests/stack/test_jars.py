"""Jars appear whole or not at all, and once; a script stands for Maven."""

import asyncio
from pathlib import Path

import pytest

from stack.errors import PartFailed, PartMissing
from stack.servers.jars import jars_of, name_of
from stack.settings import StackSettings

pytestmark = pytest.mark.anyio

TARGET = 'for each; do case "$each" in -DoutputDirectory=*) target="${each#*=}";; esac; done'
READABLE = 'for each; do case "$each" in --file=*) cat "${each#*=}" || exit 1;; esac; done'
GOOD = 'mkdir "$target" && sleep 0.2 && touch "$target/a.jar" && echo once >> "$(dirname $0)/runs"'
BAD = 'mkdir "$target" && touch "$target/half.jar" && echo "no such artifact" && exit 1'
EMPTY = 'mkdir "$target"'


@pytest.fixture
def pom(tmp_path: Path) -> Path:
    file = tmp_path / "thing.pom.xml"
    file.write_text("<project/>")
    return file


@pytest.fixture
def cached(settings: StackSettings, tmp_path: Path) -> StackSettings:
    return settings.model_copy(update={"cache": tmp_path / "cache"})


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a program that does what a test writes into it."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "mvn"


def does(maven: Path, what: str) -> None:
    maven.write_text(f"#!/bin/sh\n{TARGET}\n{what}\n")
    maven.chmod(0o755)


async def test_two_that_miss_them_at_once_download_once(
    maven: Path, pom: Path, cached: StackSettings
) -> None:
    does(maven, GOOD)
    one, other = await asyncio.gather(jars_of(pom, cached), jars_of(pom, cached))
    assert one == other
    assert [jar.name for jar in one.iterdir()] == ["a.jar"]
    assert await jars_of(pom, cached) == one
    assert maven.with_name("runs").read_text() == "once\n"


async def test_a_pom_may_be_named_from_where_we_are(
    maven: Path, pom: Path, cached: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    does(maven, f"{READABLE}\n{GOOD}")
    monkeypatch.chdir(pom.parent)
    assert [jar.name for jar in (await jars_of(Path(pom.name), cached)).iterdir()] == ["a.jar"]


def test_what_a_pom_says_is_in_the_folder_s_name(pom: Path) -> None:
    before = name_of(pom)
    assert name_of(pom) == before
    pom.write_text("<project><!-- newer --></project>")
    assert name_of(pom) != before


@pytest.mark.parametrize(("failure", "text"), [(BAD, "no such artifact"), (EMPTY, "no jars")])
async def test_a_failed_download_leaves_nothing_that_looks_complete(
    maven: Path, pom: Path, cached: StackSettings, failure: str, text: str
) -> None:
    does(maven, failure)
    with pytest.raises(PartFailed, match=text):
        await jars_of(pom, cached)
    does(maven, GOOD)
    assert [jar.name for jar in (await jars_of(pom, cached)).iterdir()] == ["a.jar"]


async def test_without_maven_it_is_missing_and_says_so(
    tmp_path: Path, pom: Path, cached: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PartMissing, match="install Maven"):
        await jars_of(pom, cached)
