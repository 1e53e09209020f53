"""PgBouncer, a pooler between clients and PostgreSQL, from the system's package if installed."""

import re
import shutil
import subprocess
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from stack.process.account import server_account
from stack.process.probe import Probe
from stack.process.process import Process, Program
from stack.servers.port import LOOPBACK, Ports, free_ports, start_on_ports
from stack.servers.postgres import ask
from stack.servers.server import Server
from stack.settings import StackSettings

BINARY = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")


def version() -> tuple[int, ...]:
    assert BINARY is not None
    said = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    assert found is not None, said
    return tuple(map(int, found.groups()))


class PgBouncer(Server):
    """A pooler in front of the server of `url`, with `mode` pooling over two connections to it."""

    def __init__(self, folder: Path, url: str, mode: str) -> None:
        self._folder = folder
        self._behind = make_url(url)
        self._mode = mode
        self._port = 0

    @property
    def url(self) -> str:
        return self._behind.set(port=self._port).render_as_string(hide_password=False)

    async def start(self) -> None:
        await start_on_ports(lambda: free_ports(1), self._start_on)

    async def _start_on(self, ports: Ports) -> None:
        (self._port,) = ports
        (self._folder / "pgbouncer.ini").write_text(self._configuration(), encoding="utf-8")
        program = Program(
            name="pgbouncer",
            argv=(str(BINARY), str(self._folder / "pgbouncer.ini")),
            folder=self._folder,
            log=self._folder / "pgbouncer.log",
            account=server_account(),
        )
        probe = Probe(self._answers, (psycopg.OperationalError,))
        self._process, _ = await Process.start(program, probe, StackSettings())

    async def _answers(self) -> None:
        await ask(self.url, "SELECT 1")

    def _configuration(self) -> str:
        behind = self._behind
        prepared = "max_prepared_statements = 100" if version() >= (1, 21) else ""
        return f"""
            [databases]
            {behind.database} = host={behind.host} port={behind.port} user={behind.username}
            [pgbouncer]
            listen_addr = {LOOPBACK}
            listen_port = {self._port}
            unix_socket_dir =
            auth_type = any
            pool_mode = {self._mode}
            default_pool_size = 2
            max_client_conn = 100
            {prepared}
        """.replace("            ", "")
