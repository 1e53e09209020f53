"""PostgreSQL: the server at POSTGRES_URL, or a throw-away cluster of our own."""

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

from outbox.environment.postgres_address import PostgresAddress
from outbox.postgres.connection import ConnectionRefused, open_session
from stack.errors import PartFailed
from stack.part import Part
from stack.process.account import server_account
from stack.process.probe import Probe, answer_within
from stack.process.process import Process, Program
from stack.servers.binaries import find_binaries
from stack.servers.container import Image, container
from stack.servers.password import make_password
from stack.servers.port import LOOPBACK, Ports, free_ports, start_on_ports
from stack.servers.server import Server
from stack.settings import StackSettings

DATABASE = "aftercommit"
USER = "postgres"
IMAGE = "postgres:18.6"
PORT = 5432
CONNECT_SECONDS = 2

SERVER_SETTINGS = {
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "shared_buffers": "256MB",
    "log_min_messages": "warning",
}
CLUSTER = {"listen_addresses": LOOPBACK, "unix_socket_directories": "", **SERVER_SETTINGS}
# Even so, a crash of processes loses nothing; only a crash of the machine does.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


@asynccontextmanager
async def postgres(
    folder: Path, settings: StackSettings | None = None, *, durable: bool = True
) -> AsyncIterator[Part]:
    """Open PostgreSQL for the length of the block: database `aftercommit`, user `postgres`.

    With POSTGRES_URL that server and its database are used as they are, and nothing is created.
    """
    settings = settings or StackSettings()
    if settings.postgres_url:
        url = settings.postgres_url.get_secret_value()
        yield await remote(url, settings, "environment POSTGRES_URL")
        return
    if settings.postgres_provider == "docker":
        async with in_container(settings) as part:
            yield part
        return
    async with PostgresServer(folder, settings, durable=durable) as server:
        yield server.part


async def remote(url: str, settings: StackSettings, provider: str) -> Part:
    """Return the server at a URL, once it answers a query."""
    probe = Probe(lambda: ask(url, "SELECT 1"), (psycopg.OperationalError,))
    await answer_within(probe, settings.ready_timeout_seconds, f"PostgreSQL ({provider})")
    return Part(name="postgres", provider=provider, url=url)


@asynccontextmanager
async def in_container(settings: StackSettings) -> AsyncIterator[Part]:
    """Run the image with a random password; it is removed, with its data, at the end."""
    (port,) = free_ports(1)
    password = make_password()
    environment = {"POSTGRES_DB": DATABASE, "POSTGRES_USER": USER, "POSTGRES_PASSWORD": password}
    options = to_options(SERVER_SETTINGS)
    image = Image(name=IMAGE, port=PORT, command=options, environment=environment)
    async with container(image, port):
        url = f"postgresql://{USER}:{password}@{LOOPBACK}:{port}/{DATABASE}"
        yield await remote(url, settings, f"image {IMAGE}")


def to_options(values: Mapping[str, str]) -> tuple[str, ...]:
    """Return settings as options of the server's command line."""
    return tuple(word for name, value in values.items() for word in ("-c", f"{name}={value}"))


class PostgresServer(Server):
    """A cluster below `folder` that may be killed and started again on the same data and port.

    It listens on 127.0.0.1 only, without a socket file. fsync is on unless `durable` is False:
    then a power cut may corrupt the data, but a kill -9 still may not. If we are root, the cluster
    belongs to the account `nobody`.

    Weaknesses: authentication is `trust`, so every user of this machine may connect as superuser.
    While it is down its port is free, and another program may take it (start is then repeated). If
    the postmaster alone is killed, by its pid and not by `kill`, busy backends live on until their
    statement ends, and PostgreSQL refuses a start before that (PartFailed).
    """

    def __init__(
        self, folder: Path, settings: StackSettings | None = None, *, durable: bool = True
    ) -> None:
        self._home = folder.resolve() / "postgres"
        self._data = self._home / "data"
        self._log = folder.resolve() / "logs" / "postgres.log"
        self._settings = settings or StackSettings()
        self._cluster = CLUSTER if durable else CLUSTER | NOT_DURABLE
        self._durable = durable
        self._account = server_account()
        self._bin = Path()
        self._provider = ""
        self._ports: Ports = ()

    @property
    def url(self) -> str:
        """The URL at which it answers; it is the same after every start."""
        return self._url(DATABASE)

    @property
    def part(self) -> Part:
        """This server now; the pid changes when it is started again."""
        return Part(name="postgres", provider=self._provider, url=self.url, pid=self.pid)

    async def start(self) -> None:
        """Make the cluster if there is none, start it, and make the database if there is none."""
        await self._prepare()
        await self._initialise()
        known = self._ports
        self._ports = await start_on_ports(lambda: known or free_ports(1), self._start_on)
        try:
            await self._create_database()
        except BaseException:
            await self.kill()
            raise

    async def _prepare(self) -> None:
        folder = self._home.parent
        folder.mkdir(parents=True, exist_ok=True)
        if self._account is None:
            self._home.mkdir(mode=0o700, exist_ok=True)
        else:
            self._account.require_way_to(self._home)
            self._account.own(self._home)
        found = find_binaries(self._settings.postgres_bin)
        usable = found.for_account(self._account, folder)
        self._bin, self._provider = usable.folder, await usable.provider()

    async def _initialise(self) -> None:
        if self._data.exists():
            return
        # Made under another name: an interrupted initdb leaves nothing that looks like a cluster.
        unfinished = self._home / f"data.{len(list(self._home.iterdir()))}"
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"]
        sync = [] if self._durable else ["--no-sync"]
        await Process.run(
            self._program("initdb", "-D", str(unfinished), *options, *sync), self._settings
        )
        unfinished.rename(self._data)

    async def _start_on(self, ports: Ports) -> None:
        self._ports = ports
        options = to_options(self._cluster | {"port": str(ports[0])})
        program = self._program("postgres", "-D", str(self._data), *options)
        probe = Probe(self._require_ours, (psycopg.OperationalError,))
        self._process, _ = await Process.start(program, probe, self._settings)

    async def _require_ours(self) -> None:
        # If another PostgreSQL has taken the port just before us, that one answers.
        answer = await ask(self._url("postgres"), "SHOW data_directory")
        if answer != str(self._data):
            raise PartFailed(f"another PostgreSQL answers at {self._url('postgres')}")

    async def _create_database(self) -> None:
        admin = self._url("postgres")
        exists = f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"  # noqa: S608  # a constant
        if await ask(admin, exists) is None:
            await ask(admin, f"CREATE DATABASE {DATABASE}")

    def _program(self, name: str, *arguments: str) -> Program:
        return Program(
            name=name,
            argv=(str(self._bin / name), *arguments),
            folder=self._home,
            log=self._log,
            account=self._account,
            stop_signal=signal.SIGINT,  # fast: sessions are ended, the shutdown is clean
            death_signal=signal.SIGQUIT,  # immediate, and the postmaster ends its backends too
        )

    def _url(self, database: str) -> str:
        port = self._ports[0] if self._ports else 0
        return f"postgresql://{USER}@{LOOPBACK}:{port}/{database}"


async def ask(url: str, statement: str) -> object:
    """Run a statement outside of any transaction; return its first row's first column, or None.

    PartFailed is raised if the server refuses this client for a reason that time does not change.
    """
    address = PostgresAddress.parse(url)
    try:
        session = await open_session(
            address, "aftercommit stack", autocommit=True, connect_timeout=CONNECT_SECONDS
        )
    except ConnectionRefused as error:
        raise PartFailed(f"{address} does not take this client: {error}") from error
    async with session as connection:
        cursor = await connection.execute(statement.encode())
        row = await cursor.fetchone() if cursor.description else None
        return row[0] if row else None
