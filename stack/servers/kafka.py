"""Apache Kafka itself: one node of broker and controller, from its Maven artifacts."""

import base64
import re
import shutil
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from outbox.errors import DependencyDown
from outbox.kafka import cluster_id
from stack.errors import PartMissing
from stack.part import Part
from stack.process.probe import Probe, answer_within, require_listener
from stack.process.process import Process, Program
from stack.servers.container import Image, container
from stack.servers.jars import can_run_jars, jars_of
from stack.servers.java import find_java
from stack.servers.port import LOOPBACK, Ports, free_ports, start_on_ports
from stack.servers.server import Server
from stack.settings import StackSettings

PROPERTIES = "server.properties"
POM = Path(__file__).with_name("kafka.pom.xml")
OLDEST_JAVA = 17
IMAGE = "apache/kafka:4.4.0"
PORT, CONTROLLER_PORT = 9092, 9093
JVM = ("-Xmx512m", "-XX:+UseSerialGC")
QUICK = ("-XX:TieredStopAtLevel=1",)  # without the slow compiler: not for high throughput
LOGGING = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
PROBE_TIMEOUT_SECONDS = 5.0
SESSION_MILLISECONDS = 3_000
ALONE = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    # No client has to log in, and yet a test can take a right away.
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


class KafkaServer(Server):
    """A broker as in production, but alone: KRaft, and topics are made by request only.

    The jars come from Maven once (see jars.py). Started again, it keeps its data and its ports. A
    new KafkaServer on the same folder keeps the data, and chooses other ports.

    Weaknesses: there is one replica of everything, and Kafka does not sync its files: what it has
    acknowledged survives a kill -9 but not a power cut. After a kill -9 it waits for its own old
    session to end (SESSION_MILLISECONDS). Kafka's own topics have four partitions, and group
    sessions may be shorter than a production broker allows (6 s).
    """

    def __init__(self, folder: Path, settings: StackSettings | None = None) -> None:
        self._home = folder.resolve() / "kafka"
        self._log = folder.resolve() / "logs" / "kafka.log"
        self._settings = settings or StackSettings()
        self._ports: Ports = ()
        self._java = Path()
        self._jars = Path()

    @property
    def url(self) -> str:
        """The bootstrap servers; they are the same after every start."""
        return f"{LOOPBACK}:{self._ports[0] if self._ports else 0}"

    @property
    def part(self) -> Part:
        """This broker now; the pid changes when it is started again."""
        provider = f"Apache Kafka {version_in(self._jars)} (Maven artifacts, KRaft)"
        return Part(name="kafka", provider=provider, url=self.url, pid=self.pid)

    async def start(self) -> None:
        """Return when it gives its metadata, and they are those of the cluster in our folder."""
        self._java = await find_java(self._settings.java_home, OLDEST_JAVA)
        self._jars = await jars_of(POM, self._settings)
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = self._ports
        self._ports = await start_on_ports(lambda: known or free_ports(2), self._start_on)

    async def _start_on(self, ports: Ports) -> None:
        self._ports = ports
        data = self._home / "data"
        if not data.exists():
            await self._format(data)
        self._configure(data)
        program = self._program("kafka", "kafka.Kafka", PROPERTIES)
        probe = Probe(self._ask, (OSError, DependencyDown))
        self._process, _ = await Process.start(program, probe, self._settings)

    async def _format(self, data: Path) -> None:
        """Make the data folder under another name, so that a half-made one is never used."""
        unfinished = data.with_name("data.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._configure(unfinished)
        options = (f"--cluster-id={make_cluster_id()}", f"--config={PROPERTIES}")
        tool = self._program("kafka-format", "kafka.tools.StorageTool", "format", *options)
        await Process.run(tool, self._settings)
        unfinished.rename(data)

    def _configure(self, data: Path) -> None:
        """Write the properties for this folder and these ports."""
        lines = [f"{name}={value}\n" for name, value in self.properties(data, self._ports).items()]
        (self._home / PROPERTIES).write_text("".join(lines), encoding="ascii")

    def properties(self, data: Path, ports: Ports) -> dict[str, object]:
        """Return the settings of a broker with this data folder and these ports."""
        broker, controller = ports
        return {
            **ALONE,
            # Static, so that the address is not kept in the data: another run may have other ports.
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{broker},CONTROLLER://{LOOPBACK}:{controller}",
            "log.dirs": data.name,  # relative to the home folder, so that it needs no escapes
            **settings_of_one_replica(),
            **settings_of_short_waits(),
        }

    def _program(self, name: str, main: str, *arguments: str) -> Program:
        quick = QUICK if self._settings.kafka_quick_start else ()
        java = (str(self._java), *JVM, *quick, LOGGING, "-cp", str(self._jars / "*"))
        argv = (*java, main, *arguments)
        return Program(name=name, argv=argv, folder=self._home, log=self._log)

    async def _ask(self) -> None:
        # A client costs far more than a connection, so it is used only once something listens.
        await require_listener(LOOPBACK, self._ports[0])
        answered = await cluster_id(self.url, PROBE_TIMEOUT_SECONDS)
        if answered != read_cluster_id(self._home / "data"):
            raise OSError(f"another broker answers at {self.url}")


def settings_of_one_replica() -> dict[str, object]:
    """Return settings for one replica, and for few partitions of Kafka's own topics."""
    own = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    return {
        **{f"{topic}.replication.factor": 1 for topic in own},
        **{f"{topic}.num.partitions": 4 for topic in own},
        **{f"{topic}.min.isr": 1 for topic in own[1:]},
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
    }


def settings_of_short_waits() -> dict[str, object]:
    """Return settings by which nothing waits long for members, brokers or deleted files."""
    return {
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1_000,
        "broker.session.timeout.ms": SESSION_MILLISECONDS,
        "broker.heartbeat.interval.ms": SESSION_MILLISECONDS // 6,
        "log.segment.delete.delay.ms": 1_000,
    }


@asynccontextmanager
async def in_container(settings: StackSettings) -> AsyncIterator[Part]:
    """Run the same broker from its image; it is removed, with its data, at the end."""
    (port,) = free_ports(1)
    environment = to_variables(properties_in_container(port))
    image = Image(name=IMAGE, port=PORT, environment=environment)
    async with container(image, port):
        url = f"{LOOPBACK}:{port}"
        probe = Probe(lambda: cluster_id(url, PROBE_TIMEOUT_SECONDS), (OSError, DependencyDown))
        await answer_within(probe, settings.ready_timeout_seconds, f"Kafka (image {IMAGE})")
        yield Part(name="kafka", provider=f"Apache Kafka (image {IMAGE}, KRaft)", url=url)


def properties_in_container(port: int) -> dict[str, object]:
    """Return the settings of a broker in a container; clients reach it at `port` of loopback."""
    return {
        **ALONE,
        "controller.quorum.voters": f"1@localhost:{CONTROLLER_PORT}",
        "listeners": f"PLAINTEXT://:{PORT},CONTROLLER://:{CONTROLLER_PORT}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        **settings_of_one_replica(),
        **settings_of_short_waits(),
    }


def to_variables(properties: Mapping[str, object]) -> dict[str, str]:
    """Return properties as the image's environment variables."""
    return {
        f"KAFKA_{name.replace('.', '_').upper()}": str(value) for name, value in properties.items()
    }


async def has_means(settings: StackSettings) -> bool:
    """Return whether this machine can run Kafka from its jars."""
    return await can_run_jars(POM, OLDEST_JAVA, settings)


def make_cluster_id() -> str:
    """Return a new id in Kafka's form: 16 random bytes; its tool refuses a leading dash."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


def read_cluster_id(data: Path) -> str:
    """Return the cluster's id that the data folder was made with; OSError if there is none."""
    text = (data / "meta.properties").read_text(encoding="utf-8")
    found = re.search(r"^cluster\.id=(.+)$", text, re.MULTILINE)
    if found is None:
        raise OSError(f"{data} has no cluster's id")
    return found[1].strip()


def version_in(jars: Path) -> str:
    """Return Kafka's version, which is in the name of its broker's jar."""
    for jar in jars.glob("kafka_2.13-*.jar"):
        return jar.stem.removeprefix("kafka_2.13-")
    raise PartMissing(f"{jars} holds no broker")
