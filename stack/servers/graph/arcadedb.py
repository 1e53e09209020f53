"""ArcadeDB: a graph that speaks Bolt and Cypher, from its wheel alone."""

import importlib.util
from pathlib import Path

from pydantic import SecretStr

from stack.errors import PartMissing
from stack.part import GraphPart
from stack.process.probe import Probe
from stack.process.process import Process, Program
from stack.servers.graph.bolt import NOT_YET, ask_starting
from stack.servers.password import read_or_make_password
from stack.servers.port import LOOPBACK, Ports, free_ports, start_on_ports
from stack.servers.server import Server
from stack.settings import StackSettings

WHEEL = "arcadedb_embedded"
USER = "root"
DATABASE = "graph"
HEAP = "-Xmx512m"
# Protocols and tools that we do not use: a plugin is loaded if its jar is on the class path.
UNWANTED = ("-mcp-", "-console-", "-graphql-", "-postgresw-", "-redisw-")


class ArcadeServer(Server):
    """ArcadeDB with its Bolt plugin, on the Java runtime of its wheel.

    The password is random, and in a file that only we may read: never in the command line, the
    environment or the log. Started again on the same folder, it keeps its data, password and port.

    Weaknesses: it is a stand-in, which speaks Cypher with gaps; every commit is flushed to the log
    file, but the file's metadata is not; and its HTTP port cannot be switched off (it listens on
    loopback, with the same password).
    """

    def __init__(self, folder: Path, settings: StackSettings | None = None) -> None:
        self._home = folder.resolve() / "graph"
        self._log = folder.resolve() / "logs" / "graph.log"
        self._settings = settings or StackSettings()
        self._password = SecretStr("")
        self._ports: Ports = ()

    @property
    def url(self) -> str:
        """The URL at which Bolt answers; it is the same after every start."""
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
        self._password = read_or_make_password(self._home / "password")
        known = self._ports
        self._ports = await start_on_ports(lambda: known or free_ports(2), self._start_on)

    async def _start_on(self, ports: Ports) -> None:
        self._ports = ports
        program = Program(name="graph", argv=self._argv(), folder=self._home, log=self._log)
        probe = Probe(lambda: ask_starting(self.part), NOT_YET)
        self._process, _ = await Process.start(program, probe, self._settings)

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
            "support.autoRegister": "false",  # it must not send reports
        }


def wheel_folder() -> Path:
    """Return the wheel's folder; nothing is imported, so that no Java starts in our process."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise PartMissing("no graph: set NEO4J_URL or install aftercommit[stack]")
    return Path(spec.origin).parent


def class_path(wheel: Path) -> str:
    """Return every jar but the unwanted ones, as Java's class path."""
    jars = sorted((wheel / "jars").glob("*.jar"))
    return ":".join(str(jar) for jar in jars if not any(word in jar.name for word in UNWANTED))
