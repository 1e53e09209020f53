"""Bolt: whether a graph server answers there."""

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from outbox.secret import keep_secret
from stack.part import GraphPart
from stack.process.probe import host_and_port, listening

PORT = 7687
NOT_YET = (OSError, DriverError, Neo4jError)


async def ask(part: GraphPart) -> None:
    """Connect, log in and run a query; one of NOT_YET where that fails."""
    auth = (part.user, part.password.get_secret_value())
    keep_secret(auth[1])
    # Whoever asks repeats it sooner: the driver would wait for seconds before it does.
    async with neo4j.AsyncGraphDatabase.driver(
        part.url, auth=auth, max_transaction_retry_time=0
    ) as driver:
        await driver.verify_connectivity()
        await driver.execute_query("RETURN 1", database_=part.database)


async def answers(part: GraphPart) -> None:
    """The same of a server that is starting.

    A driver costs far more than a connection: it is asked for only when somebody listens.
    """
    await listening(*host_and_port(part.url, PORT))
    await ask(part)
