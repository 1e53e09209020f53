"""Waits: how long a write waits, when it does not, and what it goes through meanwhile."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from consumers.projections.projection import Entry, StreamKey
from consumers.projections.testing.memory import MemoryProjection
from consumers.read_your_writes import WaitedStores, wait_for
from consumers.settings import Settings
from outbox.errors import DependencyDown
from outbox.write.database import Database
from services.prefer_wait import Why
from stack.servers.port import free_ports
from tests.kit.load.role import Role
from tests.kit.web.airports import ITEMS
from tests.kit.web.served import lives
from tests.kit.web.waiting_service import (
    AGGREGATES,
    JFK,
    LONG,
    TOPICS,
    Refusing,
    Service,
    command_headers,
    one_pending,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


async def test_a_wait_is_cut_to_the_longest_and_one_too_many_is_not_begun(
    settings: Settings,
) -> None:
    own = settings.model_copy(update={"wait_longest_seconds": 0.2, "waits_side_by_side": 1})
    async with Service.over(own, Refusing()) as service:
        await service.create()
        response = await service.put("Idlewild", wait=3_600)
        assert response.headers["Preference-Applied"] == "wait=0.2"
        async with service.stores._places:
            assert one_pending(await service.put("Idlewild", wait=3_600))["why"] == "lag"


async def test_nothing_is_said_of_a_wait_that_was_not_asked_for_or_of_a_command_that_was_refused(
    settings: Settings,
) -> None:
    async with Service.over(settings, Refusing()) as service:
        created = await service.create()
        refused = await service.http.delete(f"{ITEMS}/none", headers={"Prefer": "wait=60"})
        bad = await service.http.put(
            ITEMS, json={"items": [{"item_id": "A", "name": "a", "text": "t"}]},
            headers={"Prefer": "wait=-1; x"},
        )  # fmt: skip
    assert (created.status_code, refused.status_code, bad.status_code) == (201, 404, 200)
    for response in (created, refused, bad):
        assert "Preference-Applied" not in response.headers


async def test_a_database_that_goes_away_after_the_commit_leaves_it_open(
    settings: Settings,
) -> None:
    (port,) = free_ports(1)
    away = settings.model_copy(update={"postgres_url": _at(port), "connect_timeout_seconds": 2})
    async with Database(away, "catalog") as database:
        stores = WaitedStores(away, database, {})
        (pending,) = await stores.wait([JFK], 5)
    assert (pending.why, pending.shown) == (Why.UNKNOWN, None)


def _at(port: int) -> Any:
    return Settings(postgres_url=f"postgresql://postgres@127.0.0.1:{port}/x").postgres_url  # type: ignore[arg-type] # a str


class Flaky(MemoryProjection):
    """Down for so many looks; then it shows one version more at each look."""

    def __init__(self, outages: int) -> None:
        super().__init__(AGGREGATES, TOPICS)
        self.looks = 0
        self._outages = outages

    async def versions(self, streams: Sequence[StreamKey]) -> dict[StreamKey, Entry]:
        self.looks += 1
        if self.looks <= self._outages:
            raise DependencyDown("memory", "planted")
        return {stream: Entry(stream, self.looks - self._outages, "", False) for stream in streams}


async def test_wait_for_goes_through_an_outage_and_looks_at_least_once() -> None:
    store = Flaky(outages=3)
    waited = await wait_for(store, {JFK: 4}, 30)
    assert (waited.left, waited.down, store.looks) == ({}, None, 7)
    late = await wait_for(Flaky(outages=1), {JFK: 1}, 0)
    assert late.left == {JFK: 1}
    assert late.down == "memory is down (planted)"


@pytest.mark.usefixtures("graph")
async def test_the_service_as_it_is_started_knows_every_store(settings: Settings) -> None:
    """No consumer runs: Qdrant has no collection, and the graph no such catalog."""
    own = settings.model_copy(update={"http_port": free_ports(1)[0]})
    async with (
        Role("http", own),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{own.http_port}") as http,
    ):
        await lives(own.http_port, LONG)
        new = {"catalog_id": "airports", "name": "Airports"}
        created = await http.post(
            "/catalogs", json=new, headers=command_headers("new", 0), timeout=LONG
        )
        assert (created.status_code, created.json()["pending"][0]["store"]) == (202, "neo4j")
        item = {"items": [{"item_id": "JFK", "name": "Kennedy", "text": "t"}]}
        put = await http.put(ITEMS, json=item, headers=command_headers("item", 0), timeout=LONG)
    assert put.status_code == 202, put.text
    pending = {each["store"]: each["why"] for each in put.json()["pending"]}
    assert pending == {"neo4j": "lag", "qdrant": "down"}
