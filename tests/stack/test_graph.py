"""ArcadeDB answers over Bolt, also as a URL, and its password stays with us."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from stack.errors import PartFailed
from stack.part import GraphPart
from stack.process import process_tree
from stack.servers.graph.arcadedb import ArcadeServer
from stack.servers.graph.graph import graph
from stack.settings import StackSettings
from tests.kit.servers.graph_queries import query, visible
from tests.kit.servers.sockets import listeners

pytestmark = pytest.mark.anyio


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
    assert process_tree.parent_of(part.pid) is None


async def test_the_password_is_in_no_command_line_environment_or_log(
    folder: Path, settings: StackSettings
) -> None:
    async with graph(folder, settings) as part:
        secret = part.password.get_secret_value()
        assert len(secret) >= 32
        assert part.pid is not None
        assert secret not in visible(part.pid, folder / "logs" / "graph.log", "ArcadeDBServer")
        assert secret not in repr(part)
        assert (folder / "graph" / "password").stat().st_mode & 0o777 == 0o600


async def test_committed_nodes_survive_a_kill_and_a_start_on_the_same_port(
    folder: Path, settings: StackSettings
) -> None:
    async with ArcadeServer(folder, settings) as server:
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
