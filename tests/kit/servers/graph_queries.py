"""What the tests of graph servers ask and look at."""

from pathlib import Path

import neo4j

from stack.part import GraphPart


async def query(part: GraphPart, cypher: str) -> list[list[object]]:
    """The records of one query, over a driver of its own."""
    auth = (part.user, part.password.get_secret_value())
    async with neo4j.AsyncGraphDatabase.driver(part.url, auth=auth) as driver:
        result = await driver.execute_query(cypher, database_=part.database)
        return [list(record.values()) for record in result.records]


def visible(pid: int, log: Path, main: str) -> str:
    """Everything of a server of this main class that others could come to see."""
    process = Path(f"/proc/{pid}")
    texts = [file.read_text() for file in (process / "cmdline", process / "environ", log)]
    assert main in texts[0]
    return "".join(texts)
