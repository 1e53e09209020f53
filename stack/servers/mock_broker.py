"""The mock broker of librdkafka, in a process of its own."""

import json
import logging
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import structlog

import stack
from stack.part import Part
from stack.process.probe import Probe, host_and_port, require_listener
from stack.process.process import Process, Program
from stack.servers.server import Server
from stack.settings import StackSettings

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
METADATA_TIMEOUT_SECONDS = 10.0


class BrokerServer(Server):
    """The mock cluster of librdkafka: one broker, in its own process (`python -m stack broker`).

    It stands in for Kafka in a demo and in short tests. Weaknesses: it keeps everything in memory
    and little of it (some 5 MB or 100,000 messages a partition), topics appear by themselves with
    4 partitions, there is no admin API, and a group has one member. Started again after a kill, it
    is a new, empty broker on a new port: it is the one server that does not keep its data.
    """

    def __init__(self, folder: Path, settings: StackSettings | None = None) -> None:
        self._folder = folder.resolve()
        self._settings = settings or StackSettings()
        self.url = ""

    @property
    def part(self) -> Part:
        """This broker now."""
        provider = "librdkafka mock broker (wheel confluent-kafka, stand-in)"
        return Part(name="kafka", provider=provider, url=self.url, pid=self.pid, stand_in=True)

    async def start(self) -> None:
        """Return when it has printed its address and accepts a connection there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        program = self._program()
        start = program.log.stat().st_size if program.log.exists() else 0
        probe = Probe(lambda: read_announced(program.log, start))
        self._process, self.url = await Process.start(program, probe, self._settings)

    def _program(self) -> Program:
        return Program(
            name="broker",
            argv=(sys.executable, "-m", "stack", "broker"),
            folder=self._folder,
            log=self._folder / "logs" / "kafka.log",
            environment={"PYTHONPATH": import_path()},
            holds_stdin=True,
        )


def import_path() -> str:
    """Return the import path for a child, which finds this package and its libraries as we do."""
    ours = str(Path(stack.__file__).parents[1])
    return os.pathsep.join([ours, *(path for path in sys.path if path)])


async def read_announced(file: Path, start: int) -> str:
    """Return the bootstrap servers that the broker wrote to its log; OSError until they listen."""
    bootstrap = find_announcement(file, start)
    await require_listener(*host_and_port(bootstrap, 9092))
    return bootstrap


def find_announcement(file: Path, start: int) -> str:
    """Return what the broker's line of JSON says; OSError until the whole line is there."""
    for line in file.read_bytes()[start:].decode(errors="replace").splitlines(keepends=True):
        if line.startswith('{"bootstrap"') and line.endswith("\n"):
            return str(json.loads(line)["bootstrap"])
    raise OSError("the broker has not announced its address")


def serve(announce: Callable[[str], None]) -> None:
    """Be a mock broker until SIGTERM, SIGINT or the end of the standard input."""
    from confluent_kafka import Producer  # an extra: only the broker's own process needs it

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    quiet = logging.getLogger("librdkafka")
    quiet.setLevel(logging.ERROR)  # it would warn that the cluster is a mock, which is intended
    producer = Producer({"test.mock.num.brokers": 1}, logger=quiet)
    brokers = producer.list_topics(timeout=METADATA_TIMEOUT_SECONDS).brokers.values()
    announce(json.dumps({"bootstrap": ",".join(f"{each.host}:{each.port}" for each in brokers)}))
    while not input_ended():
        producer.poll(0)


def input_ended() -> bool:
    """Return whether the standard input ends within POLL_SECONDS; its content is ignored."""
    readable, _, _ = select.select([sys.stdin.fileno()], [], [], POLL_SECONDS)
    return bool(readable) and not os.read(sys.stdin.fileno(), 4096)


def leave(number: int, frame: FrameType | None) -> None:
    """End the process in good order."""
    del frame
    log.info("stopping", signal=signal.Signals(number).name)
    sys.exit(0)
