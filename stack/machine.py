"""The machine: all four parts, started side by side and stopped one after another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stack.errors import StackError
from stack.part import GraphPart, Part, VectorsPart
from stack.process.folder import run_folder
from stack.servers.broker import broker
from stack.servers.graph.graph import graph
from stack.servers.postgres import postgres
from stack.servers.vectors import vectors
from stack.settings import StackSettings

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Four parts that have answered, and the folder with their data and logs."""

    folder: Path
    postgres: Part
    kafka: Part
    graph: GraphPart
    qdrant: VectorsPart

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.postgres, self.kafka, self.graph, self.qdrant)

    def environment(self) -> dict[str, str]:
        """Return the variables that our roles read.

        **They hold passwords**: give them to a child process, and never to a log.
        """
        variables = {
            "POSTGRES_URL": self.postgres.url,
            "KAFKA_URL": self.kafka.url,
            "NEO4J_URL": self.graph.url,
            "NEO4J_USER": self.graph.user,
            "NEO4J_PASSWORD": self.graph.password.get_secret_value(),
            "NEO4J_DATABASE": self.graph.database,
            "QDRANT_URL": self.qdrant.url,
        }
        if self.qdrant.api_key is not None:
            variables["QDRANT_API_KEY"] = self.qdrant.api_key.get_secret_value()
        return variables

    def providers(self) -> list[str]:
        """Return one line a part: its name, what stands behind it and where. Safe to print."""
        return [f"{part.name}: {part.provider} at {part.address}" for part in self.parts]


@asynccontextmanager
async def machine(
    data_folder: Path | None = None,
    *,
    keep: bool = False,
    settings: StackSettings | None = None,
    durable: bool = True,
) -> AsyncIterator[Machine]:
    """Run every part for the length of the block.

    Data and logs lie in `data_folder`, which is never removed, or in a temporary folder that is
    removed at the end unless `keep`. If one part cannot start, the others are stopped and a
    StackError is raised. Parts stop in the reverse order of becoming ready, also on an exception or
    a cancellation. Further cancellations do not make that faster: each part has
    `stop_timeout_seconds` to end. `durable` is for PostgreSQL: without it a power cut may corrupt
    the data.
    """
    settings = settings or StackSettings()
    with run_folder(data_folder, keep=keep) as folder:
        async with AsyncExitStack() as exits:
            yield await start_parts(exits, folder, settings, durable=durable)


async def start_parts(
    exits: AsyncExitStack, folder: Path, settings: StackSettings, *, durable: bool
) -> Machine:
    """Start all parts at once.

    A part that is ready is stopped by `exits`; one that is not ready yet stops itself. StackError
    says everything that went wrong; any other error is raised as it is.
    """
    try:
        async with asyncio.TaskGroup() as group:

            def enter(part: AbstractAsyncContextManager[T]) -> asyncio.Task[T]:
                return group.create_task(exits.enter_async_context(part))

            database = enter(postgres(folder, settings, durable=durable))
            kafka = enter(broker(folder, settings))
            neo4j = enter(graph(folder, settings))
            qdrant = enter(vectors(folder, settings))
    except BaseExceptionGroup as errors:
        expected, unexpected = errors.split(StackError)
        if expected is None or unexpected is not None:
            raise
        raise merge_errors(expected) from errors
    return Machine(
        folder=folder,
        postgres=database.result(),
        kafka=kafka.result(),
        graph=neo4j.result(),
        qdrant=qdrant.result(),
    )


def merge_errors(errors: BaseExceptionGroup[StackError]) -> StackError:
    """Return one error with the messages of all, for an operator at a terminal."""
    return StackError("\n".join(str(error) for error in errors.exceptions))
