"""Debezium in the place of our relay: its router as documented, and a Connect worker to run it."""

import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from stack.errors import PartFailed
from stack.process.probe import Probe
from stack.process.process import Process, Program
from stack.servers.java import find_java
from stack.servers.kafka import JVM, LOGGING, OLDEST_JAVA
from stack.servers.port import LOOPBACK, free_ports
from stack.settings import StackSettings

DEPLOYED = Path(__file__).parents[3] / "deploy" / "debezium"
POM = Path(__file__).with_name("debezium.pom.xml")
MAIN = "org.apache.kafka.connect.cli.ConnectStandalone"
CONTEXT = "__debezium."  # how the names of its own headers begin

Row = Mapping[str, str | None]


@dataclass(frozen=True)
class Routed:
    """A record as it lies in a topic."""

    topic: str
    key: bytes
    value: bytes | None
    headers: dict[str, bytes]


def connector() -> dict[str, str]:
    """Return the connector's configuration that we ship."""
    document = json.loads((DEPLOYED / "connector.json").read_text(encoding="utf-8"))
    config: dict[str, str] = document["config"]
    return config


def statements() -> list[str]:
    """Return the statements of publication.sql."""
    text = (DEPLOYED / "publication.sql").read_text(encoding="utf-8")
    return [each for each in text.split(";") if each.strip()]


def transforms(config: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield the options of each transform, in the order in which they are applied."""
    for name in config["transforms"].split(","):
        prefix = f"transforms.{name}."
        yield {k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)}


def routed(row: Row, config: Mapping[str, str]) -> Routed:
    """Return the record that an inserted row becomes, by Debezium's documentation.

    The values of the row are PostgreSQL's texts.
    """
    router = next(each for each in transforms(config) if each["type"].endswith(".EventRouter"))
    payload = row[router["table.field.event.payload"]]
    tombstones = router["route.tombstone.on.empty.payload"] == "true"
    return Routed(
        topic=_topic(router, row[router["route.by.field"]] or ""),
        key=(row[router["table.field.event.key"]] or "").encode(),
        value=None if tombstones and not (payload or "").strip() else (payload or "").encode(),
        headers={**_placed(router, row), **_fixed(config)},
    )


def _topic(router: Mapping[str, str], value: str) -> str:
    return router["route.topic.replacement"].replace("${routedByValue}", value)


def _placed(router: Mapping[str, str], row: Row) -> dict[str, bytes]:
    """Return the headers `id` and those that are configured as `column:header:alias`."""
    placed = {"id": row[router["table.field.event.id"]]}
    for trio in router["table.fields.additional.placement"].split(","):
        column, placement, alias = trio.split(":")
        assert placement == "header"
        placed[alias] = row[column]
    return {name: value.encode() for name, value in placed.items() if value is not None}


def _fixed(config: Mapping[str, str]) -> dict[str, bytes]:
    """Return the headers with a fixed text, be they inserted as a header or moved from a field."""
    inserted: dict[str, str] = {}
    headers: dict[str, str] = {}
    for each in transforms(config):
        kind = each["type"].rpartition(".")[2]
        if kind == "InsertField$Value":
            inserted[each["static.field"]] = each["static.value"]
        elif kind == "HeaderFrom$Value":
            headers[each["headers"]] = inserted[each["fields"]]
        elif kind == "InsertHeader":
            # Connect guesses a type: what reads as a number would not come out as it went in.
            assert not re.fullmatch(r'[\d."\s-]*', each["value.literal"])
            headers[each["header"]] = each["value.literal"]
    return {name: value.encode() for name, value in headers.items()}


@asynccontextmanager
async def connect(
    folder: Path, jars: Path, postgres_url: str, kafka_url: str, settings: StackSettings
) -> AsyncIterator[None]:
    """Run a Kafka Connect worker; its connector runs when the block begins."""
    (port,) = free_ports(1)
    rest = f"http://{LOOPBACK}:{port}"
    worker = folder / "worker.properties"
    worker.write_text("\n".join(_properties(folder, kafka_url, rest)), encoding="utf-8")
    java = str(await find_java(settings.java_home, OLDEST_JAVA))
    program = Program(
        name="connect",
        argv=(java, *JVM, LOGGING, "-cp", f"{jars}/*", MAIN, str(worker), _connector_file()),
        folder=folder,
        log=folder / "logs" / "connect.log",
        environment=_variables(postgres_url),
    )
    probe = Probe(lambda: _runs(rest), (OSError, httpx.HTTPError))
    process, _ = await Process.start(program, probe, settings)
    try:
        yield
    finally:
        await process.stop()


def _connector_file() -> str:
    return os.fspath(DEPLOYED / "connector.json")


def _properties(folder: Path, kafka_url: str, rest: str) -> list[str]:
    """Return the worker's properties; the connector names converters of its own."""
    providers = "org.apache.kafka.common.config.provider"
    return [
        f"bootstrap.servers={kafka_url}",
        f"listeners={rest}",
        "key.converter=org.apache.kafka.connect.json.JsonConverter",
        "value.converter=org.apache.kafka.connect.json.JsonConverter",
        f"offset.storage.file.filename={folder / 'offsets'}",
        "plugin.discovery=service_load",
        "config.providers=env",
        f"config.providers.env.class={providers}.EnvVarConfigProvider",
    ]


def _variables(postgres_url: str) -> dict[str, str]:
    parts = urlsplit(postgres_url)
    return {
        "POSTGRES_HOST": parts.hostname or "",
        "POSTGRES_PORT": str(parts.port),
        "POSTGRES_USER": parts.username or "",
        "POSTGRES_PASSWORD": parts.password or "trusted",
        "POSTGRES_DB": parts.path.removeprefix("/"),
    }


async def _runs(rest: str) -> None:
    """OSError until the connector's task runs; PartFailed where it failed."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{rest}/connectors/aftercommit-outbox/status")
    tasks = answer.json().get("tasks", []) if answer.status_code == 200 else []
    if any(task["state"] == "FAILED" for task in tasks):
        raise PartFailed(f"the connector failed: {tasks}")
    if not tasks or any(task["state"] != "RUNNING" for task in tasks):
        raise OSError("the connector does not run yet")
