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
    """Four parts that answered, and the folder with their data and logs."""

    folder: Path
    postgres: Part
    kafka: Part
    graph: GraphPart
    qdrant: VectorsPart

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.postgres, self.kafka, self.graph, self.qdrant)

    def environment(self) -> dict[str, str]:
        """The variables that our roles read. **It holds passwords**: for a child, not for a log."""
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
        """One line a part: its name, what stands behind it and where. Safe to print."""
        return [f"{part.name}: {part.provider} at {part.address}" for part in self.parts]


@asynccontextmanager
async def machine(
    data_folder: Path | None = None,
    *,
    keep: bool = False,
    settings: StackSettings | None = None,
    durable: bool = True,
) -> AsyncIterator[Machine]:
    """Every part for the length of the block.

    Data and logs lie in `data_folder`, which is never removed, or in a temporary folder that is
    removed at the end unless `keep`. If one part cannot start, the others are undone and the error
    is a StackError. Parts stop in the reverse order of becoming ready, also on an exception or a
    cancellation; further cancellations do not hurry it, its limit is `stop_timeout_seconds` a part.
    """
    settings = settings or StackSettings()
    with run_folder(data_folder, keep=keep) as folder:
        async with AsyncExitStack() as exits:
            yield await start_parts(exits, folder, settings, durable=durable)


async def start_parts(
    exits: AsyncExitStack, folder: Path, settings: StackSettings, *, durable: bool
) -> Machine:
    """All parts at once; what is ready stops with `exits`, what is not undoes itself."""
    try:
        async with asyncio.TaskGroup() as group:

            def enter(part: AbstractAsyncContextManager[T]) -> asyncio.Task[T]:
                return group.create_task(exits.enter_async_context(part))

            database = enter(postgres(folder, settings, durable=durable))
            kafka = enter(broker(folder, settings))
            neo4j = enter(graph(folder, settings))
            qdrant = enter(vectors(folder, settings))
    except BaseExceptionGroup as errors:
        expected, surprises = errors.split(StackError)
        if expected is None or surprises is not None:
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
    """One error that says everything, for a person at a terminal."""
    return StackError("\n".join(str(error) for error in errors.exceptions))
