"""Bolt: the question whether a graph server answers."""

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from outbox.secret import keep_secret
from stack.part import GraphPart
from stack.process.probe import host_and_port, require_listener

PORT = 7687
NOT_YET = (OSError, DriverError, Neo4jError)


async def ask(part: GraphPart) -> None:
    """Connect, log in and run a query; raise one of NOT_YET if that fails."""
    auth = (part.user, part.password.get_secret_value())
    keep_secret(auth[1])
    # The caller asks again by itself, and sooner than the driver, which waits for seconds.
    async with neo4j.AsyncGraphDatabase.driver(
        part.url, auth=auth, max_transaction_retry_time=0
    ) as driver:
        await driver.verify_connectivity()
        await driver.execute_query("RETURN 1", database_=part.database)


async def ask_starting(part: GraphPart) -> None:
    """Ask a server that may still be starting; raise one of NOT_YET if it does not answer.

    A driver costs far more than a connection, so it is used only once something listens.
    """
    await require_listener(*host_and_port(part.url, PORT))
    await ask(part)
