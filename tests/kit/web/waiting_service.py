"""The application over stores that a write can wait for, its caller, and a store that refuses."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx

from consumers.projections.projection import Change, Projection, StreamKey
from consumers.projections.testing.memory import MemoryProjection
from consumers.read_your_writes import WaitedStores
from consumers.settings import Settings
from outbox.errors import build_rejection
from outbox.kafka import count_unread
from outbox.write.database import Database
from schemas.catalog import CatalogCreated, ItemEvent
from services.assembly import catalog, qdrant
from tests.kit.web.airports import CATALOG, EMBEDDER, ITEMS, call_in_process
from web.app import application

JFK = StreamKey(ItemEvent.aggregate, "airports/JFK")
LONG = 60  # a busy machine takes its time; nobody waits longer than it takes
TOPICS = (CatalogCreated.topic, ItemEvent.topic)
AGGREGATES = (CatalogCreated.aggregate, ItemEvent.aggregate)


@asynccontextmanager
async def opened(projection: Projection, _: Settings) -> AsyncIterator[Projection]:
    yield projection


class Service:
    """The application over stores that can be waited for, and a caller of it."""

    def __init__(self, http: httpx.AsyncClient, stores: WaitedStores) -> None:
        self.http = http
        self.stores = stores

    @classmethod
    @asynccontextmanager
    async def over(
        cls, settings: Settings, *projections: Projection, client: Any = None
    ) -> AsyncIterator["Service"]:
        each = {one.name: partial(opened, one) for one in projections}
        async with (
            Database(settings, "catalog") as database,
            WaitedStores(settings, database, each) as stores,
        ):
            api = catalog(database, lambda: client or qdrant(settings), EMBEDDER, stores)
            async with call_in_process(application(api)) as http:
                http.timeout = httpx.Timeout(2 * LONG)
                yield cls(http, stores)

    async def create(self, wait: float | None = None) -> httpx.Response:
        headers = command_headers("new", wait)
        return await self.http.post("/catalogs", json=CATALOG, headers=headers)

    async def put(self, name: str, wait: float | None = None) -> httpx.Response:
        """A repetition of the same name is a repetition of the same command."""
        item = {"item_id": "JFK", "name": name, "text": f"{name}, an airport"}
        return await self.http.put(
            ITEMS, json={"items": [item]}, headers=command_headers(name, wait)
        )


def command_headers(key: str, wait: float | None) -> dict[str, str]:
    return {"Idempotency-Key": key} | ({"Prefer": f"wait={wait:g}"} if wait is not None else {})


class Refusing(MemoryProjection):
    """A store that refuses the name `bad`."""

    def __init__(self) -> None:
        super().__init__(AGGREGATES, TOPICS)

    async def apply(self, changes: Sequence[Change]) -> None:
        if any(getattr(change.event, "name", "") == "bad" for change in changes):
            raise build_rejection("refused-by-store", "name", "must not be bad")
        await super().apply(changes)


def one_pending(response: httpx.Response) -> dict[str, Any]:
    """The one key that a 202 says is pending."""
    assert response.status_code == 202, response.text
    answer = response.json()
    assert answer["result"], "a 202 says too what the command did"
    assert answer["pending_count"] == 1
    (pending,) = answer["pending"]
    assert (pending["aggregate"], pending["key"]) == JFK
    return dict(pending)


async def version_in(projection: Projection, stream: StreamKey = JFK) -> int:
    found = (await projection.versions([stream])).get(stream)
    return found.version if found else 0


async def is_behind(settings: Settings, projection: Projection) -> bool:
    group = f"aftercommit.{projection.name}"
    return await count_unread(settings.kafka_url, group, projection.topics) == 1
