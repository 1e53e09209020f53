"""What tests ask a graph server, and what others could see of its process."""

from pathlib import Path

import neo4j

from stack.part import GraphPart


async def query(part: GraphPart, cypher: str) -> list[list[object]]:
    """Return the records of one query, over a driver of its own."""
    auth = (part.user, part.password.get_secret_value())
    async with neo4j.AsyncGraphDatabase.driver(part.url, auth=auth) as driver:
        result = await driver.execute_query(cypher, database_=part.database)
        return [list(record.values()) for record in result.records]


def visible(pid: int, log: Path, main: str) -> str:
    """Return the server's command line, environment and log, which others could come to see."""
    process = Path(f"/proc/{pid}")
    texts = [file.read_text() for file in (process / "cmdline", process / "environ", log)]
    assert main in texts[0]
    return "".join(texts)
