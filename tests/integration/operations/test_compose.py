"""`compose.yaml` fits our code: its commands, settings, addresses and checks are ones that we have.

What this does not prove: that an engine pulls the images and that the containers come up. No
engine was at hand; where the compose client is installed, it reads the file too.
"""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from consumers.settings import Settings
from outbox.relay.relay import Relay
from stack.servers import kafka, postgres, vectors
from stack.servers.graph import bolt, neo4j
from tests.kit.load.role import environment
from tests.kit.load.roles import running
from tests.kit.servers.compose import FILE, GIVEN, ONE_SHOT, Service, document, services
from tests.kit.waiting import until
from web.app import create_app

pytestmark = pytest.mark.anyio

ROLES = {
    "migrate": "services migrate",
    "topics": "outbox topics",
    "http": "web serve",
    "relay": "outbox relay",
    "commands": "consumers commands",
    "projection-qdrant": "consumers qdrant",
    "projection-neo4j": "consumers neo4j",
}
SERVERS = {
    "postgres": postgres.IMAGE,
    "kafka": kafka.IMAGE,
    "qdrant": vectors.IMAGE,
    "neo4j": neo4j.IMAGE,
}
ALL = services()
OURS = [service for service in ALL.values() if service.ours]
THEIRS = [service for service in ALL.values() if not service.ours]


def test_every_role_runs_and_the_relay_twice() -> None:
    assert {each.name: " ".join(each.said["command"][2:4]) for each in OURS} == ROLES
    assert ALL["relay"].said["deploy"] == {"replicas": 2}


def test_the_servers_are_the_images_that_the_stack_runs_at_tags_that_do_not_move() -> None:
    assert {each.name: each.said["image"] for each in THEIRS} == SERVERS
    for image in SERVERS.values():
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?(-community)?", image)


def test_qdrant_is_young_enough_and_kafka_is_the_one_of_the_jars() -> None:
    """Below 1.19 a deleted point may come back when the log is replayed."""
    major, minor = re.findall(r"\d+", vectors.IMAGE)[:2]
    assert (int(major), int(minor)) >= (1, 19)
    version = kafka.IMAGE.partition(":")[2]
    pom = kafka.POM.read_text(encoding="utf-8")
    assert re.search(rf"<artifactId>kafka_2.13</artifactId>\s*<version>{version}</version>", pom)


@pytest.mark.parametrize("service", OURS, ids=lambda each: each.name)
def test_its_command_is_one_of_ours_with_options_that_it_has(service: Service) -> None:
    said = [sys.executable, *service.said["command"][1:], "--help"]
    told = subprocess.run(said, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 0, told.stderr
    assert "Usage:" in told.stdout


@pytest.mark.parametrize("service", OURS, ids=lambda each: each.name)
def test_its_variables_are_settings_of_ours_and_give_what_they_say(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.environment.keys() <= known()
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.neo4j_password.get_secret_value() == GIVEN["NEO4J_PASSWORD"]
    assert settings.log_format == "json"


def known() -> set[str]:
    """Return the environment variable of every setting."""
    prefix = Settings.model_config["env_prefix"]
    return {
        str(field.validation_alias or f"{prefix}{name.upper()}")
        for name, field in Settings.model_fields.items()
    }


def test_every_address_is_a_server_of_this_file_at_its_port_and_with_its_password() -> None:
    said = ALL["relay"].environment
    database = urlsplit(said["POSTGRES_URL"])
    assert (database.hostname, database.port) == ("postgres", postgres.PORT)
    assert database.password == ALL["postgres"].environment["POSTGRES_PASSWORD"]
    assert database.path == f"/{ALL['postgres'].environment['POSTGRES_DB']}"
    assert said["KAFKA_URL"] == f"kafka:{kafka.PORT}"
    assert said["QDRANT_URL"] == f"http://qdrant:{vectors.PORT}"
    assert said["NEO4J_URL"] == f"bolt://neo4j:{bolt.PORT}"
    assert ALL["neo4j"].environment["NEO4J_AUTH"] == f"neo4j/{said['NEO4J_PASSWORD']}"


def test_kafka_is_told_what_the_stack_s_broker_is_but_for_its_addresses_and_its_pace() -> None:
    told = ALL["kafka"].environment
    ours = kafka.to_variables(kafka.properties_in_container(0))
    addresses = {"KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_CONTROLLER_QUORUM_VOTERS"}
    assert told.keys() - ours.keys() == {"KAFKA_LOG_DIRS"}
    own = told.keys() - addresses - {"KAFKA_LOG_DIRS"}
    assert {name: told[name] for name in own} == {name: ours[name] for name in own}
    assert told["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://kafka:{kafka.PORT}"
    assert told["KAFKA_LISTENERS"] == ours["KAFKA_LISTENERS"]


def test_whatever_keeps_data_keeps_it_in_a_volume_of_this_file() -> None:
    volumes = {volume for service in THEIRS for volume in service.mounts}
    assert volumes == document()["volumes"].keys() == SERVERS.keys()
    assert ALL["kafka"].environment["KAFKA_LOG_DIRS"] == ALL["kafka"].mounts["kafka"]


def test_every_service_shows_its_health_or_ends() -> None:
    for service in ALL.values():
        if service.name in ONE_SHOT:
            assert not service.health
            assert "restart" not in service.said
        else:
            assert service.health[0] in {"CMD", "CMD-SHELL"}
            assert service.said["restart"] == "unless-stopped"


def test_what_a_service_waits_for_is_healthy_or_done() -> None:
    """Roles also wait until PostgreSQL is migrated and Kafka has its topics."""
    for service in ALL.values():
        for name, condition in service.needs.items():
            done = "service_completed_successfully" if name in ONE_SHOT else "service_healthy"
            assert condition == done
            assert name in ALL
    for service in OURS:
        if service.name not in ONE_SHOT:
            assert service.needs.keys() == {*ONE_SHOT, "qdrant", "neo4j"}
    assert ALL["migrate"].needs.keys() == {"postgres"}
    assert ALL["topics"].needs.keys() == {"kafka"}


def test_what_is_published_is_published_to_this_machine_only() -> None:
    published = {port for service in ALL.values() for port in service.said.get("ports", ())}
    assert published == {"127.0.0.1:8000:8000"}


def test_the_http_role_is_asked_at_its_port_for_a_route_that_it_has() -> None:
    said = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", " ".join(ALL["http"].health))
    assert said is not None
    assert int(said[1]) == Settings.model_fields["http_port"].default
    assert said[2] in create_app([], {}).openapi()["paths"]


def test_no_password_is_written_down() -> None:
    """Each is a variable without a default: without it, nothing starts, and the error names it."""
    secret = [
        value
        for service in services({}).values()
        for name, value in service.environment.items()
        if re.search("PASSWORD|AUTH", name) or "@" in value.replace("1@kafka", "")
    ]
    assert len(secret) > len(OURS)
    assert all(re.search(r"\$\{(POSTGRES|NEO4J)_PASSWORD:\?[^}]+\}", value) for value in secret)


def test_the_image_holds_every_module_that_is_run() -> None:
    lines = (FILE.parent / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert all((FILE.parent / source).exists() for source in copied)
    modules = {command.split()[0] for command in ROLES.values()}
    assert modules <= set(copied)


def check(service: Service, settings: Settings) -> int:
    """Return the exit code of its health check, run here as the engine would run it there."""
    kind, *command = service.health
    told = ["sh", "-c", *command] if kind == "CMD-SHELL" else command
    folder = Path(sys.executable).parent
    variables = environment(settings)
    variables["PATH"] = f"{folder}:{variables['PATH']}"
    return subprocess.run(told, env=variables, capture_output=True, check=False).returncode


async def test_a_relay_is_healthy_while_one_leads_and_a_role_while_postgres_answers(
    settings: Settings,
) -> None:
    nowhere = settings.model_copy(
        update={"postgres_url": type(settings.postgres_url)("postgresql://postgres@127.0.0.1:1/x")}
    )
    assert check(ALL["relay"], settings) == 1
    for name in ("commands", "projection-qdrant", "projection-neo4j"):
        assert check(ALL[name], settings) == 0
        assert check(ALL[name], nowhere) == 2

    async def healthy() -> bool:
        # In a thread: the relay needs this loop, or it loses its lease while the check runs.
        return await asyncio.to_thread(check, ALL["relay"], settings) == 0

    async with running(Relay(settings)):
        await until(healthy, within_seconds=120)
    assert check(ALL["relay"], settings) == 1


def test_the_compose_client_takes_the_file() -> None:
    docker = shutil.which("docker")
    client = [str(docker), "compose", "version"]
    if docker is None or subprocess.run(client, capture_output=True, check=False).returncode:
        pytest.skip("no compose client here")
    read = [docker, "compose", "--file", str(FILE), "config", "--quiet"]
    told = subprocess.run(
        read, env={"PATH": "/usr/bin:/bin", **GIVEN}, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
