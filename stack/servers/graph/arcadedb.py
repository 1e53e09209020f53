"""ArcadeDB: a graph that speaks Bolt and Cypher, from its wheel alone."""

import importlib.util
from pathlib import Path

from stack.errors import PartMissing
from stack.part import GraphPart
from stack.servers.graph.own_server import OwnGraphServer
from stack.servers.port import LOOPBACK

WHEEL = "arcadedb_embedded"
USER = "root"
DATABASE = "graph"
HEAP = "-Xmx512m"
# Protocols and tools that we do not use: a plugin is loaded if its jar is on the class path.
UNWANTED = ("-mcp-", "-console-", "-graphql-", "-postgresw-", "-redisw-")


class ArcadeServer(OwnGraphServer):
    """ArcadeDB with its Bolt plugin, on the Java runtime of its wheel.

    Weaknesses: it is a stand-in, which speaks Cypher with gaps; every commit is flushed to the log
    file, but the file's metadata is not; and its HTTP port cannot be switched off (it listens on
    loopback, with the same password).
    """

    port_count = 2

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
