"""Own server: what the graph servers that we start have in common."""

from abc import abstractmethod
from pathlib import Path

from pydantic import SecretStr

from stack.part import GraphPart
from stack.process.probe import Probe
from stack.process.process import Process, Program
from stack.servers.graph.bolt import NOT_YET, ask_starting
from stack.servers.password import read_or_make_password
from stack.servers.port import LOOPBACK, Ports, free_ports, start_on_ports
from stack.servers.server import Server
from stack.settings import StackSettings


class OwnGraphServer(Server):
    """A graph server in a process of ours, which speaks Bolt.

    The password is random, and in a file that only we may read: never in the command line, the
    environment or the log. Started again on the same folder, it keeps its data, password and port.
    The first of its `port_count` ports is Bolt's.
    """

    port_count = 1

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
    @abstractmethod
    def part(self) -> GraphPart:
        """This server now; the pid changes when it is started again."""

    async def start(self) -> None:
        """Return when a query over Bolt is answered."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._password = read_or_make_password(self._home / "password")
        self._write_user()
        known = self._ports
        self._ports = await start_on_ports(lambda: known or free_ports(self.port_count), self._run)

    async def _run(self, ports: Ports) -> None:
        self._ports = ports
        self._configure()
        program = Program(name="graph", argv=self._argv(), folder=self._home, log=self._log)
        probe = Probe(lambda: ask_starting(self.part), NOT_YET)
        self._process, _ = await Process.start(program, probe, self._settings)

    def _write_user(self) -> None:
        """Write the user and the password where the server reads them, if it wants a file."""

    def _configure(self) -> None:
        """Write the server's settings for these ports, if it wants a file."""

    @abstractmethod
    def _argv(self) -> tuple[str, ...]:
        """Return the server's command line."""
