"""Containers are chosen only where an engine answers, and a chosen one is never replaced.

No engine runs these tests: a stand-in notes what an engine would be asked. That the images start,
and answer there, is proven only where Docker is.
"""

import gc
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from testcontainers.core.config import testcontainers_config

from stack.errors import PartFailed, PartMissing
from stack.part import Part
from stack.servers import broker, kafka, postgres, vectors
from stack.servers.container import engine_answers
from stack.servers.graph import graph, neo4j
from stack.servers.jars import name_of
from stack.settings import StackSettings
from tests.kit.servers.engine import Engine, engine

pytestmark = pytest.mark.anyio

Open = Callable[[Path, StackSettings], AbstractAsyncContextManager[Part]]
# The part, the variable of its provider, the port inside, and a variable that the server gets.
PARTS: list[tuple[Open, str, int, str]] = [
    (postgres.postgres, "postgres_provider", 5432, "POSTGRES_DB=aftercommit"),
    (broker.broker, "kafka_provider", 9092, "KAFKA_PROCESS_ROLES=broker,controller"),
    (graph.graph, "graph_provider", 7687, "NEO4J_dbms_security_auth__max__failed__attempts=0"),
    (vectors.vectors, "qdrant_provider", 6333, ""),
]
each_part = pytest.mark.parametrize(("part", "provider", "port", "variable"), PARTS)


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    with engine() as running:
        monkeypatch.setenv("DOCKER_HOST", running.url)
        yield running


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def best(settings: StackSettings, tmp_path: Path) -> StackSettings:
    update = {"kafka_provider": "best", "graph_provider": "best", "cache": tmp_path / "cache"}
    return settings.model_copy(update=update)


def program(file: Path, does: str) -> None:
    file.write_text(f"#!/bin/sh\n{does}\n")
    file.chmod(0o755)


def java(folder: Path, version: int) -> None:
    program(folder / "java", f"""echo 'openjdk version "{version}.0.1"' >&2""")


@pytest.mark.usefixtures("no_engine")
@each_part
async def test_a_container_that_was_meant_is_missing_without_an_engine_and_says_so(
    part: Open, provider: str, port: int, variable: str, folder: Path, settings: StackSettings
) -> None:
    del port, variable
    meant = settings.model_copy(update={provider: "docker"})
    with pytest.raises(PartMissing, match="no Docker engine answers"):
        async with part(folder, meant):
            pass


@each_part
async def test_an_image_is_published_on_loopback_told_its_settings_and_removed(
    part: Open,
    provider: str,
    port: int,
    variable: str,
    folder: Path,
    settings: StackSettings,
    standing: Engine,
) -> None:
    """Nothing answers behind a stand-in's port: this is also what an image that hangs gives."""
    meant = settings.model_copy(update={provider: "docker", "ready_timeout_seconds": 0.3})
    with pytest.raises(PartFailed, match=r"image .*:.* did not answer within 0.3 s"):
        async with part(folder, meant):
            pass
    (asked,) = standing.created
    (published,) = asked["HostConfig"]["PortBindings"].items()
    assert published[0] == f"{port}/tcp"
    assert [binding["HostIp"] for binding in published[1]] == ["127.0.0.1"]
    assert variable in "\n".join(asked.get("Env", []))
    assert standing.removed == ["c1"]


async def test_an_engine_that_refuses_is_quoted_and_the_container_removed(
    folder: Path, settings: StackSettings, standing: Engine
) -> None:
    standing.refuses_to_start = True
    meant = settings.model_copy(update={"kafka_provider": "docker"})
    with pytest.raises(PartFailed, match="port is already allocated"):
        async with broker.broker(folder, meant):
            pass
    assert standing.removed == ["c1"]


def test_a_broker_in_a_container_is_told_what_the_one_of_the_jars_is(
    folder: Path, settings: StackSettings
) -> None:
    jars = kafka.KafkaServer(folder, settings).properties(folder, (9092, 9093))
    contained = kafka.properties_in_container(9999)
    own = {"listeners", "controller.quorum.voters", "log.dirs", "advertised.listeners"}
    assert {name: jars[name] for name in jars.keys() - own} == {
        name: contained[name] for name in contained.keys() - own
    }
    assert contained["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9999"


async def chosen(settings: StackSettings) -> tuple[str, str]:
    """Return the broker's provider and the graph's."""
    return await broker.choose_provider(settings), await graph.choose_provider(settings)


@pytest.mark.usefixtures("standing")
async def test_the_best_is_a_container_where_an_engine_answers(best: StackSettings) -> None:
    assert await engine_answers()
    assert await chosen(best) == ("docker", "docker")


async def test_an_engine_that_is_gone_leaves_no_socket_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's file is still there; an open socket would be a warning, and so an error here."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "docker.sock"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'docker.sock'}")
    assert not await engine_answers()
    gc.collect()


@pytest.mark.usefixtures("no_engine")
async def test_the_best_without_an_engine_are_the_jars_where_java_and_maven_are(
    programs: Path, best: StackSettings
) -> None:
    assert not await engine_answers()
    assert await chosen(best) == ("mock", "arcadedb")
    java(programs, 17)
    assert await chosen(best) == ("mock", "arcadedb")
    program(programs / "mvn", "exit 1")
    assert await chosen(best) == ("maven", "maven")
    java(programs, 11)
    assert await chosen(best) == ("mock", "arcadedb")


@pytest.mark.usefixtures("no_engine")
async def test_jars_that_are_kept_need_no_maven(programs: Path, best: StackSettings) -> None:
    java(programs, 21)
    (best.cache_folder() / name_of(kafka.POM)).mkdir(parents=True)
    assert await chosen(best) == ("maven", "arcadedb")
    (best.cache_folder() / name_of(neo4j.POM)).mkdir(parents=True)
    assert await chosen(best) == ("maven", "maven")


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("part", [broker.broker, graph.graph])
async def test_means_that_fail_are_an_error_and_never_another_provider(
    part: Open, folder: Path, programs: Path, best: StackSettings
) -> None:
    java(programs, 17)
    program(programs / "mvn", "echo 'no route to any repository'; exit 1")
    with pytest.raises(PartFailed, match="no route to any repository"):
        async with part(folder, best):
            pass


@pytest.mark.usefixtures("standing")
@pytest.mark.parametrize("provider", ["mock", "maven", "docker"])
async def test_what_was_chosen_by_name_is_not_chosen_again(
    provider: str, best: StackSettings
) -> None:
    assert (
        await broker.choose_provider(best.model_copy(update={"kafka_provider": provider}))
        == provider
    )


@pytest.mark.usefixtures("standing")
@pytest.mark.parametrize("provider", ["arcadedb", "maven", "docker"])
async def test_a_graph_that_was_chosen_by_name_is_not_chosen_again(
    provider: str, best: StackSettings
) -> None:
    assert (
        await graph.choose_provider(best.model_copy(update={"graph_provider": provider}))
        == provider
    )
