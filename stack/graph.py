"""The graph: at NEO4J_URL, or ArcadeDB over Bolt."""

import importlib.util
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import neo4j
from neo4j.exceptions import DriverError, Neo4jError
from pydantic import SecretStr

from stack.container import Image, container, engine_answers
from stack.errors import PartMissing
from stack.part import GraphPart
from stack.port import LOOPBACK, Ports, free_ports, on_ports
from stack.probe import Probe, answer_within, listening
from stack.process import Process, Program
from stack.server import Server
from stack.settings import StackSettings

WHEEL = "arcadedb_embedded"
USER = "root"
DATABASE = "graph"
HEAP = "-Xmx512m"
# Protocols and tools that nobody asked for; a plugin is loaded when its jar is there.
UNWANTED = ("-mcp-", "-console-", "-graphql-", "-postgresw-", "-redisw-")
IMAGE = "neo4j:5.26.31-community"
PORT = 7687
NOT_YET = (OSError, DriverError, Neo4jError)


@asynccontextmanager
async def graph(folder: Path, settings: StackSettings | None = None) -> AsyncIterator[GraphPart]:
    """A graph for the length of the block, reached by the official neo4j driver."""
    settings = settings or StackSettings()
    if settings.neo4j_url:
        yield await remote(settings.neo4j_url, settings, "environment NEO4J_URL")
        return
    wanted = settings.graph_provider
    if wanted == "docker" or (wanted == "best" and await engine_answers()):
        async with in_container(settings) as part:
            yield part
        return
    async with GraphServer(folder, settings) as server:
        yield server.part


async def remote(url: str, settings: StackSettings, provider: str) -> GraphPart:
    """The server at a URL, once it answers a query with the user and password given."""
    part = GraphPart(
        name="graph",
        provider=provider,
        url=url,
        user=settings.neo4j_user,
        password=settings.graph_password(),
        database=settings.neo4j_database,
    )
    probe = Probe(lambda: ask(part), NOT_YET)
    await answer_within(probe, settings.ready_timeout_seconds, f"Neo4j ({provider})")
    return part


@asynccontextmanager
async def in_container(settings: StackSettings) -> AsyncIterator[GraphPart]:
    """Neo4j from its image, with a random password, gone at the end."""
    (port,) = free_ports(1)
    password = secrets.token_urlsafe(24)
    login = {"neo4j_user": "neo4j", "neo4j_password": SecretStr(password)}
    there = settings.model_copy(update={**login, "neo4j_database": "neo4j"})
    image = Image(name=IMAGE, port=PORT, environment={"NEO4J_AUTH": f"neo4j/{password}"})
    async with container(image, port):
        yield await remote(f"bolt://{LOOPBACK}:{port}", there, f"image {IMAGE}")


class GraphServer(Server):
    """ArcadeDB with its Bolt plugin, on the Java runtime of its wheel.

    The password is random, and in a file that only we may read: never in the command line, the
    environment or the log. Started again on the same folder it keeps its data, password and port.

    Weaknesses: a stand-in, which speaks Cypher with gaps; every commit is flushed to the log file
    but the file's metadata is not; its HTTP port cannot be switched off (loopback, same password).
    """

    def __init__(self, folder: Path, settings: StackSettings | None = None) -> None:
        self._home = folder.resolve() / "graph"
        self._log = folder.resolve() / "logs" / "graph.log"
        self._settings = settings or StackSettings()
        self._password = SecretStr("")
        self._ports: Ports = ()

    @property
    def url(self) -> str:
        """Where Bolt answers; the same after every start."""
        return f"bolt://{LOOPBACK}:{self._ports[0] if self._ports else 0}"

    @property
    def part(self) -> GraphPart:
        """This server now; the pid changes when it is started again."""
        return GraphPart(
            name="graph",
            provider="ArcadeDB over Bolt (wheel arcadedb-embedded, stand-in)",
            url=self.url,
            pid=self.pid,
            stand_in=True,
            user=USER,
            password=self._password,
            database=DATABASE,
        )

    async def start(self) -> None:
        """Return when a query over Bolt is answered."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._password = kept_password(self._home / "password")
        known = self._ports
        self._ports = await on_ports(lambda: known or free_ports(2), self._start_on)

    async def _start_on(self, ports: Ports) -> None:
        self._ports = ports
        program = Program(name="graph", argv=self._argv(), folder=self._home, log=self._log)
        probe = Probe(self._answers, NOT_YET)
        self._process, _ = await Process.start(program, probe, self._settings)

    async def _answers(self) -> None:
        # A driver costs far more than a connection: ask for one only when somebody listens.
        await listening(LOOPBACK, self._ports[0])
        await ask(self.part)

    def _argv(self) -> tuple[str, ...]:
        wheel = wheel_folder()
        options = tuple(f"-Darcadedb.{name}={value}" for name, value in self._options().items())
        java = (str(wheel / "jre" / "bin" / "java"), HEAP, "-XX:+UseSerialGC")
        return (*java, "-cp", class_path(wheel), *options, "com.arcadedb.server.ArcadeDBServer")

    def _options(self) -> dict[str, str]:
        bolt, http = self._ports
        return {
            "server.mode": "production",  # no Studio, no files for LOAD CSV, the log is flushed
            "server.rootPath": str(self._home),
            "server.databaseDirectory": str(self._home / "databases"),
            "server.logsDirectory": str(self._home / "log"),
            "server.rootPasswordPath": str(self._home / "password"),
            "server.defaultDatabases": f"{DATABASE}[{USER}]",
            "server.httpIncomingHost": LOOPBACK,
            "server.httpIncomingPort": str(http),
            "server.plugins": "Bolt:com.arcadedb.bolt.BoltProtocolPlugin",
            "bolt.host": LOOPBACK,
            "bolt.port": str(bolt),
            "ssl.enabled": "false",  # and with it the HTTPS port
            "serverMetrics": "false",
            "support.autoRegister": "false",  # reports to nobody
        }


async def ask(part: GraphPart) -> None:
    """Connect, log in and run a query."""
    auth = (part.user, part.password.get_secret_value())
    async with neo4j.AsyncGraphDatabase.driver(part.url, auth=auth) as driver:
        await driver.verify_connectivity()
        await driver.execute_query("RETURN 1", database_=part.database)


def kept_password(file: Path) -> SecretStr:
    """The password in the file; a new random one, for our eyes only, if there is no file.

    ArcadeDB reads it at its first start and keeps a hash, so that a kept folder needs the file.
    """
    if not file.exists():
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as new:
            new.write(secrets.token_urlsafe(24))
    return SecretStr(file.read_text(encoding="ascii"))


def wheel_folder() -> Path:
    """Where the wheel lies; it is found and not imported, so that no Java starts in our process."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise PartMissing("no graph: set NEO4J_URL or install aftercommit[stack]")
    return Path(spec.origin).parent


def class_path(wheel: Path) -> str:
    """Every jar but the unwanted ones."""
    jars = sorted((wheel / "jars").glob("*.jar"))
    return ":".join(str(jar) for jar in jars if not any(word in jar.name for word in UNWANTED))
