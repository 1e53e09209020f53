"""PostgreSQL clusters of a test's own, which it may kill, fill, copy and promote."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from consumers.settings import Settings
from outbox.postgres.migrate import migrate
from services.migrations import all_migrations
from stack.process.process import Process, Program
from stack.servers.postgres import PostgresServer, ask
from stack.settings import StackSettings
from tests.kit.defaults import odd
from tests.kit.waiting import until

# Tests share two cores and little memory.
SMALL = {"shared_buffers": "32MB", "max_connections": "60"}


class Cluster(PostgresServer):
    """A server below a folder of its own, always started by us, whatever POSTGRES_URL says.

    `values` are server settings; `environment` is added to the server's. fsync is off: tests here
    kill processes, not the machine, and the kernel keeps what those have written.
    """

    def __init__(
        self,
        folder: Path,
        values: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        settings = StackSettings(postgres_url=None)
        super().__init__(folder, settings, durable=False)
        self._cluster = {**self._cluster, **SMALL, **odd(), **(values or {})}
        self._environment = environment or {}

    async def copy(self, primary: "Cluster") -> None:
        """Become a standby of `primary`, not started yet."""
        await self._prepare()
        options = ("-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", primary.url)
        program = self._program("pg_basebackup", "-D", str(self._data), *options)
        await Process.run(program, self._settings)

    async def dump(self, database: str, file: Path, *options: str) -> None:
        """Write a logical dump, as SQL, to the file."""
        url = self._url(database)
        await Process.run(
            self._program("pg_dump", "-d", url, "-f", str(file), *options), self._settings
        )

    async def restore(self, database: str, file: Path) -> None:
        """Create the database and run a dump in it."""
        await ask(self._url("postgres"), f"CREATE DATABASE {database} TEMPLATE template0")
        options = ("-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null")
        psql = self._program("psql", *options, "-d", self._url(database), "-f", str(file))
        await Process.run(psql, self._settings)

    def database(self, name: str) -> str:
        return self._url(name)

    @property
    def data(self) -> Path:
        return self._data

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    async def caught_up(self, primary: "Cluster") -> None:
        """Return once this standby shows all that is durable on the primary at the call."""
        at = await ask(primary.url, "SELECT pg_current_wal_flush_lsn()::text")
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{at}'"

        async def shows() -> bool:
            return await ask(self.url, replayed) is True

        await until(shows, within_seconds=30)

    async def promote(self) -> None:
        await ask(self.url, "SELECT pg_promote(true, 30)")

    def _program(self, name: str, *arguments: str) -> Program:
        program = super()._program(name, *arguments)
        added = [f"{variable}={value}" for variable, value in self._environment.items()]
        # By env(1), which runs as the server's account already: what a preloaded library makes
        # belongs to that account, and not to root.
        return replace(program, argv=("/usr/bin/env", *added, *program.argv)) if added else program


@contextmanager
def cluster_folder() -> Iterator[Path]:
    """Yield a folder that PostgreSQL's account may enter; pytest's tmp_path is closed to it."""
    path = Path(tempfile.mkdtemp(prefix="faults-"))
    path.chmod(0o777)  # the same account writes dumps into it
    try:
        yield path
    finally:
        shutil.rmtree(path)


@asynccontextmanager
async def running_cluster(
    values: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Cluster]:
    """Run a migrated cluster for the length of the block."""
    with cluster_folder() as folder:
        async with Cluster(folder, values, environment) as cluster:
            await migrate(cluster.url, all_migrations())
            yield cluster


def at(settings: Settings, url: str) -> Settings:
    """Return the same settings with another PostgreSQL."""
    return settings.model_copy(update={"postgres_url": SecretStr(url)})
