"""The graph answers over Bolt, and its password stays with us."""

from pathlib import Path

import neo4j
import pytest
from pydantic import SecretStr

from stack import family
from stack.errors import PartFailed
from stack.graph import GraphServer, graph
from stack.part import GraphPart
from stack.settings import StackSettings
from tests.stack.sockets import listeners

pytestmark = pytest.mark.anyio


async def query(part: GraphPart, cypher: str) -> list[list[object]]:
    auth = (part.user, part.password.get_secret_value())
    async with neo4j.AsyncGraphDatabase.driver(part.url, auth=auth) as driver:
        result = await driver.execute_query(cypher, database_=part.database)
        return [list(record.values()) for record in result.records]


async def test_it_answers_also_as_a_url_and_is_gone_afterwards(
    folder: Path, settings: StackSettings
) -> None:
    async with graph(folder, settings) as part:
        await query(part, "CREATE (:Airport {code: 'JFK'})")
        assert await query(part, "MATCH (a:Airport) RETURN a.code") == [["JFK"]]
        assert part.stand_in
        assert part.pid is not None
        assert listeners(part.pid) == {"0100007F"}
        await uses_url(part, settings)
    assert family.parent_of(part.pid) is None


async def test_the_password_is_in_no_command_line_environment_or_log(
    folder: Path, settings: StackSettings
) -> None:
    async with graph(folder, settings) as part:
        secret = part.password.get_secret_value()
        assert len(secret) >= 32
        assert part.pid is not None
        assert secret not in visible(part.pid, folder / "logs" / "graph.log")
        assert secret not in repr(part)
        assert (folder / "graph" / "password").stat().st_mode & 0o777 == 0o600


async def test_committed_nodes_survive_a_kill_and_a_start_on_the_same_port(
    folder: Path, settings: StackSettings
) -> None:
    async with GraphServer(folder, settings) as server:
        before = server.part
        await query(before, "CREATE (:Airport {code: 'LHR'})")
        await server.kill()
        await server.start()
        assert (server.url, server.part.password) == (before.url, before.password)
        assert await query(server.part, "MATCH (a:Airport) RETURN a.code") == [["LHR"]]


async def uses_url(ours: GraphPart, settings: StackSettings) -> None:
    there = settings.model_copy(
        update={
            "neo4j_url": ours.url,
            "neo4j_user": ours.user,
            "neo4j_password": ours.password,
            "neo4j_database": ours.database,
        }
    )
    async with graph(Path("unused"), there) as part:
        assert (part.provider, part.pid) == ("environment NEO4J_URL", None)
    wrong = {"neo4j_password": SecretStr("wrong"), "ready_timeout_seconds": 0.5}
    with pytest.raises(PartFailed, match="NEO4J_URL"):
        async with graph(Path("unused"), there.model_copy(update=wrong)):
            pass


def visible(pid: int, log: Path) -> str:
    """Everything of a server that others could come to see."""
    process = Path(f"/proc/{pid}")
    texts = [file.read_text() for file in (process / "cmdline", process / "environ", log)]
    assert "ArcadeDBServer" in texts[0]
    return "".join(texts)
