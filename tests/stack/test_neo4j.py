"""Neo4j itself: started from its jars, on loopback only, and durable over a kill.

The tests are skipped where Maven or Java is missing, unless they must be there
(tests/kit/servers/jars.py).
"""

import hashlib
from pathlib import Path

import pytest
from pydantic import SecretStr

from stack.process import process_tree
from stack.servers.graph.neo4j import IMAGE, POM, Neo4jServer, write_user
from stack.servers.port import LOOPBACK
from stack.settings import StackSettings
from tests.kit.servers.graph_queries import query, visible
from tests.kit.servers.jars import required_jars
from tests.kit.servers.sockets import listeners

pytestmark = pytest.mark.anyio

KIND = "CALL dbms.components() YIELD name, versions, edition RETURN name, versions[0], edition"
CODES = "MATCH (a:Airport) RETURN a.code"


@pytest.fixture
async def settings(settings: StackSettings) -> StackSettings:
    real = settings.model_copy(update={"graph_provider": "maven", "ready_timeout_seconds": 180.0})
    await required_jars(POM, real)
    return real


async def test_it_is_the_real_one_and_what_it_committed_survives_a_kill_at_the_same_address(
    folder: Path, settings: StackSettings
) -> None:
    async with Neo4jServer(folder, settings) as server:
        before = server.part
        assert not before.stand_in
        assert await query(before, KIND) == [["Neo4j Kernel", version(), "community"]]
        assert before.provider == f"Neo4j Community {version()} (Maven artifacts)"
        keeps_to_itself(server, folder)
        await query(before, "CREATE (:Airport {code: 'LHR'})")
        await server.kill()
        await server.start()
        assert (server.url, server.part.password) == (before.url, before.password)
        assert await query(server.part, CODES) == [["LHR"]]
        after = server.part
    assert after.pid not in (None, before.pid)
    assert process_tree.parent_of(after.pid or 0) is None


def keeps_to_itself(server: Neo4jServer, folder: Path) -> None:
    """It listens on loopback only, has no children, and shows its password to nobody."""
    assert server.pid is not None
    assert server.url.startswith(f"bolt://{LOOPBACK}:")
    assert listeners(server.pid) == {"0100007F"}
    assert process_tree.descendants(server.pid) == []
    secret = server.part.password.get_secret_value()
    assert len(secret) >= 32
    assert secret not in visible(server.pid, folder / "logs" / "graph.log", "CommunityEntryPoint")
    assert secret not in repr(server.part)
    assert (folder / "graph" / "password").stat().st_mode & 0o777 == 0o600
    for log in (folder / "graph" / "logs").iterdir():
        assert secret not in log.read_text()


def test_the_image_and_the_jars_are_one_version() -> None:
    assert f"neo4j:{version()}-community" == IMAGE


def version() -> str:
    """Return the version of the pom's only dependency."""
    return POM.read_text().partition("<artifactId>neo4j</artifactId>\n      <version>")[2][:7]


def test_a_user_is_written_with_a_salted_hash_of_many_rounds(tmp_path: Path) -> None:
    file = tmp_path / "dbms" / "auth.ini"
    write_user(file, SecretStr("open sesame"))
    user, credentials, flags = file.read_text().rstrip("\n").split(":")
    algorithm, digest, salt, rounds = credentials.split(",")
    hashed = bytes.fromhex(salt) + b"open sesame"
    for _ in range(int(rounds)):
        hashed = hashlib.sha256(hashed).digest()
    assert (user, algorithm, digest, flags) == ("neo4j", "SHA-256", hashed.hex(), "")
