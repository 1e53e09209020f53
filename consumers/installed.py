"""Installed: what this process can run, by name; each is assembled when it is opened.

Start here to see which projections there are. Nothing at the top of this module imports a store's
client, the embedder or a service: a command that needs PostgreSQL only starts in a fraction of the
time that those take to import.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from consumers.projections.generations import LiveProjection
from consumers.runner.reaction import Reaction
from consumers.settings import Settings
from outbox.streams.own_rows import OwnRows

Assemble = Callable[[Settings], AbstractAsyncContextManager[LiveProjection]]


@asynccontextmanager
async def _catalog_vectors(settings: Settings) -> AsyncIterator[LiveProjection]:
    from consumers.assembly import catalog_vectors

    async with catalog_vectors(settings) as projection:
        yield projection


@asynccontextmanager
async def _catalog_graph(settings: Settings) -> AsyncIterator[LiveProjection]:
    from consumers.assembly import catalog_graph

    async with catalog_graph(settings) as projection:
        yield projection


@asynccontextmanager
async def catalog_commands(settings: Settings) -> AsyncIterator[Reaction]:
    """The catalog's command consumer, over a database pool of its own."""
    from consumers.assembly import catalog_commands

    async with catalog_commands(settings) as reaction:
        yield reaction


PROJECTIONS: dict[str, Assemble] = {"qdrant": _catalog_vectors, "neo4j": _catalog_graph}


def load_own_rows() -> tuple[OwnRows, ...]:
    """Return the services' own rows, of those that offer to compare them with their messages."""
    from services.catalog.own_rows import CatalogRows

    return (CatalogRows(),)
