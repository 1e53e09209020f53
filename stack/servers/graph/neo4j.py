"""Neo4j Community itself: one server, from its Maven artifacts or from its image."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from stack.errors import PartMissing
from stack.part import GraphPart
from stack.process.probe import Probe, answer_within
from stack.servers.container import Image, container
from stack.servers.graph.bolt import NOT_YET, PORT, ask_starting
from stack.servers.graph.own_server import OwnGraphServer
from stack.servers.jars import can_run_jars, jars_of
from stack.servers.java import find_java
from stack.servers.password import make_password
from stack.servers.port import LOOPBACK, free_ports
from stack.settings import StackSettings

POM = Path(__file__).with_name("neo4j.pom.xml")
OLDEST_JAVA = 17
IMAGE = "neo4j:5.26.31-community"
USER = "neo4j"
DATABASE = "neo4j"
MAIN = "org.neo4j.server.CommunityEntryPoint"
OPENED = ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")
JVM = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-Dlog4j2.disable.jmx=true",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
)
QUICK = ("-XX:TieredStopAtLevel=1",)  # without the slow compiler: a start in half the time
# A client with a wrong password must not lock the others out; a random one cannot be guessed.
UNLOCKED = {"dbms.security.auth_max_failed_attempts": "0"}
HASH_ROUNDS = 1024
SALT_BYTES = 32


class Neo4jServer(OwnGraphServer):
    """A server as in production, but alone, and with Bolt only.

    The jars come from Maven once (see jars.py).

    Weaknesses: it has little memory, and no optimizing compiler where it starts quickly, so that
    its speed says nothing. The Community edition has no cluster, so no leader ever changes.
    """

    _java = Path()
    _jars = Path()

    @property
    def part(self) -> GraphPart:
        """This server now; the pid changes when it is started again."""
        provider = f"Neo4j Community {version_in(self._jars)} (Maven artifacts)"
        return part_at(self.url, self._password, provider, self.pid)

    async def start(self) -> None:
        """Return when a query over Bolt is answered."""
        self._java = await find_java(self._settings.java_home, OLDEST_JAVA)
        self._jars = await jars_of(POM, self._settings)
        await super().start()

    def _write_user(self) -> None:
        write_user(self._home / "data" / "dbms" / "auth.ini", self._password)

    def _configure(self) -> None:
        lines = [f"{name}={value}\n" for name, value in options(self._ports[0]).items()]
        (self._home / "neo4j.conf").write_text("".join(lines), encoding="ascii")

    def _argv(self) -> tuple[str, ...]:
        quick = QUICK if self._settings.graph_quick_start else ()
        java = (str(self._java), *JVM, *quick, "-cp", str(self._jars / "*"))
        folders = (f"--home-dir={self._home}", f"--config-dir={self._home}")
        return (*java, MAIN, *folders, "--console-mode")


def options(port: int) -> dict[str, str]:
    """Return the server's settings."""
    return {
        "server.default_listen_address": LOOPBACK,
        "server.bolt.listen_address": f"{LOOPBACK}:{port}",
        "server.http.enabled": "false",
        "server.https.enabled": "false",
        "server.memory.pagecache.size": "64m",
        "db.tx_log.preallocate": "false",  # 256 MiB a database otherwise
        "db.logs.query.enabled": "OFF",  # it would hold the queries' values
        **UNLOCKED,
        "dbms.security.allow_csv_import_from_file_urls": "false",
        "dbms.usage_report.enabled": "false",  # it must not send reports
        "client.allow_telemetry": "false",
        "internal.dbms.bolt.netty_server_shutdown_quiet_period": "0",  # a stop would wait 10 s
    }


def write_user(file: Path, password: SecretStr) -> None:
    """Write the one user as the server reads it at its first start; later starts ignore it.

    Neo4j's own tool writes the same, and needs as much time as a server to start.
    """
    salt = secrets.token_bytes(SALT_BYTES)
    hashed = salt + password.get_secret_value().encode()
    for _ in range(HASH_ROUNDS):
        hashed = hashlib.sha256(hashed).digest()
    file.parent.mkdir(parents=True, exist_ok=True)
    line = f"{USER}:SHA-256,{hashed.hex()},{salt.hex()},{HASH_ROUNDS}:\n"
    file.write_text(line, encoding="ascii")


@asynccontextmanager
async def in_container(settings: StackSettings) -> AsyncIterator[GraphPart]:
    """Run the image with a random password; it is removed, with its data, at the end."""
    (port,) = free_ports(1)
    password = make_password()
    environment = {"NEO4J_AUTH": f"{USER}/{password}", **to_variables(UNLOCKED)}
    image = Image(name=IMAGE, port=PORT, environment=environment)
    url = f"bolt://{LOOPBACK}:{port}"
    part = part_at(url, SecretStr(password), f"Neo4j Community (image {IMAGE})")
    async with container(image, port):
        probe = Probe(lambda: ask_starting(part), NOT_YET)
        await answer_within(probe, settings.ready_timeout_seconds, f"Neo4j (image {IMAGE})")
        yield part


def to_variables(options: Mapping[str, str]) -> dict[str, str]:
    """Return options as the image's environment variables."""
    escapes = str.maketrans({"_": "__", ".": "_"})
    return {f"NEO4J_{name.translate(escapes)}": value for name, value in options.items()}


async def has_means(settings: StackSettings) -> bool:
    """Return whether this machine can run Neo4j from its jars."""
    return await can_run_jars(POM, OLDEST_JAVA, settings)


def part_at(url: str, password: SecretStr, provider: str, pid: int | None = None) -> GraphPart:
    """Return the part for a server of ours, which has one user and one database."""
    return GraphPart(
        name="graph",
        provider=provider,
        url=url,
        pid=pid,
        user=USER,
        password=password,
        database=DATABASE,
    )


def version_in(jars: Path) -> str:
    """Return Neo4j's version, which is in the name of its jar."""
    for jar in jars.glob("neo4j-kernel-5*.jar"):
        return jar.stem.removeprefix("neo4j-kernel-")
    raise PartMissing(f"{jars} holds no Neo4j")
