"""What the catalog's readers are told where others have changed its tables or its search store.

The search store is qdrant-client's local mode; the filters are asked of Qdrant's own engine, too.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from qdrant_client import AsyncQdrantClient, models

from consumers.assembly import live_vectors
from consumers.projections.projection import StreamKey, read_change
from consumers.qdrant.points import point_id
from outbox.streams.heads import read_heads
from outbox.streams.latest import read_latest
from outbox.write.database import Database
from schemas.catalog import COLLECTION, ItemEvent
from services.assembly import catalog
from services.catalog.embedder import WordLlamaEmbedder
from services.catalog.routes import Api
from services.catalog.where import conditions, parse_where
from services.settings import Settings
from tests.kit.qdrant.engine import EdgeEngine
from web.app import application

pytestmark = pytest.mark.anyio

Client = httpx.AsyncClient
Connection = psycopg.AsyncConnection[Any]

EMBEDDER = WordLlamaEmbedder()
ITEMS = "/catalogs/lamps/items"
SEARCH = "/catalogs/lamps/search?q=lamp"
CONSISTENCY = "/catalogs/lamps/consistency"
LIVE = f"{COLLECTION}-1"


@pytest.fixture
async def store() -> AsyncIterator[AsyncQdrantClient]:
    client = AsyncQdrantClient(location=":memory:")
    yield client
    await client.close()


@pytest.fixture
async def api(postgres_url: str, store: AsyncQdrantClient) -> AsyncIterator[Api]:
    settings = Settings(postgres_url=SecretStr(postgres_url), qdrant_url=":memory:")
    async with Database(settings, "catalog") as database:
        yield catalog(database, lambda: store, EMBEDDER)


@pytest.fixture
async def http(api: Api) -> AsyncIterator[Client]:
    """A caller, where the catalog `lamps` exists."""
    transport = httpx.ASGITransport(application(api), raise_app_exceptions=False)
    async with Client(transport=transport, base_url="http://test") as client:
        body = {"catalog_id": "lamps", "name": "Lamps"}
        await client.post("/catalogs", json=body, headers={"Idempotency-Key": "one"})
        yield client


async def put(http: Client, **items: dict[str, Any]) -> None:
    body = [
        {"item_id": item, "name": item, "text": f"a lamp {item}", "attributes": attributes}
        for item, attributes in items.items()
    ]
    assert (await http.put(ITEMS, json={"items": body})).status_code == 200


async def project(store: AsyncQdrantClient, postgres: Connection) -> None:
    """What the search store's consumer does with all events so far."""
    projection = live_vectors(store, EMBEDDER)
    await projection.prepare()
    streams = [head.stream for head in await read_heads(postgres, [ItemEvent.aggregate])]
    latest = (await read_latest(postgres, streams)).values()
    await projection.apply([read_change(each) for each in latest if each])


async def told(http: Client) -> dict[str, Any]:
    """What consistency says, without what is empty."""
    response = await http.get(CONSISTENCY)
    assert response.status_code == 200
    return {name: value for name, value in response.json().items() if value not in ([], {})}


async def found(http: Client, *where: str) -> list[str]:
    response = await http.get(SEARCH, params=[("q", "lamp"), *(("where", each) for each in where)])
    assert response.status_code == 200, response.text
    return sorted(hit["item_id"] for hit in response.json())


async def test_consistency_sees_rows_that_were_changed_by_hand(
    http: Client, store: AsyncQdrantClient, postgres: Connection
) -> None:
    """FB2: heads and points agree with each other, and not with the tables."""
    await put(http, a={}, b={}, c={})
    await project(store, postgres)
    counts = {"qdrant_items": 3, "qdrant_tombstones": 0}
    assert await told(http) == counts | {"in_sync": True, "postgres_items": 3}

    await postgres.execute("DELETE FROM catalog.items WHERE item_id = 'a'")
    assert await told(http) == counts | {
        "in_sync": False, "postgres_items": 2, "rows_missing": ["lamps/a"],
        "counts": {"rows_missing": 1},
    }  # fmt: skip
    await postgres.execute("INSERT INTO catalog.items VALUES ('lamps', 'd', 'd', 'by hand', '{}')")
    await postgres.execute("UPDATE catalog.items SET name = 'x' WHERE item_id = 'b'")
    assert await told(http) == counts | {
        "in_sync": False, "postgres_items": 3, "rows_missing": ["lamps/a"],
        "rows_orphaned": ["lamps/d"], "rows_different": ["lamps/b"],
        "counts": {"rows_missing": 1, "rows_orphaned": 1, "rows_different": 1},
    }  # fmt: skip


async def test_consistency_sees_a_catalog_whose_own_row_is_gone(
    http: Client, store: AsyncQdrantClient, postgres: Connection
) -> None:
    """FB2: its heads and points are there; only what nobody ever made is unknown."""
    await put(http, a={})
    await project(store, postgres)
    await postgres.execute("DELETE FROM catalog.items")
    await postgres.execute("DELETE FROM catalog.catalogs")
    assert (await told(http))["rows_missing"] == ["lamps", "lamps/a"]
    assert (await http.get("/catalogs/nobody/consistency")).status_code == 404


# What a row may be altered to that no command could put there.
UNREADABLE = [
    "attributes = '{\"a\": null}'", "attributes = '{\"a\": {\"b\": 1}}'", "attributes = 'null'",
    "attributes = '[]'", "attributes = '[[\"a\", 1]]'", "attributes = '{\"A b\": 1}'",
    "attributes = '{\"a\": 1e400}'", "name = ''", "name = repeat('n', 201)", "text = ''",
]  # fmt: skip


@pytest.mark.parametrize("altered", UNREADABLE)
async def test_a_row_that_no_command_could_put_there_stops_no_reader_and_no_writer(
    http: Client, postgres: Connection, altered: str
) -> None:
    """FB2: pages are as full as ever, consistency names it, and the next command mends it."""
    await put(http, a={}, b={}, c={}, d={})
    statement = ("UPDATE catalog.items SET", altered, "WHERE item_id IN ('a', 'b')")
    await postgres.execute(" ".join(statement).encode())
    for limit, shown in ((1, ["c"]), (2, ["c", "d"]), (100, ["c", "d"])):
        page = await http.get(ITEMS, params={"limit": limit})
        assert [item["item_id"] for item in page.json()] == shown
    refused = await http.get(f"{ITEMS}/a")
    assert refused.status_code == 404
    assert "altered by hand" in refused.json()["errors"][0]["rule"]
    await put(http, a={})
    assert (await http.get(f"{ITEMS}/a")).json()["version"] == 2


async def test_a_catalog_whose_row_no_command_could_put_there_is_told(
    http: Client, postgres: Connection
) -> None:
    """FB2"""
    await postgres.execute("UPDATE catalog.catalogs SET name = ''")
    refused = await http.get("/catalogs/lamps")
    assert refused.status_code == 404
    assert "altered by hand" in refused.json()["errors"][0]["rule"]


async def test_consistency_names_a_hundred_keys_and_counts_them_all(
    http: Client, store: AsyncQdrantClient, postgres: Connection
) -> None:
    """FB2"""
    await put(http, **{f"i{number:03}": {} for number in range(120)})
    await project(store, postgres)
    await postgres.execute("DELETE FROM catalog.items")
    document = await told(http)
    assert document["rows_missing"] == [f"lamps/i{number:03}" for number in range(100)]
    assert document["counts"] == {"rows_missing": 120}


def fields(item_id: str, **changed: Any) -> dict[str, Any]:
    return {"catalog_id": "lamps", "item_id": item_id, "name": "n", "attributes": {}} | changed


def entry(item_id: str, **changed: Any) -> dict[str, Any]:
    """As the projection would write it."""
    made = {
        "aggregate": ItemEvent.aggregate,
        "key": f"lamps/{item_id}",
        "version": 1,
        "event_id": "e",
        "digest": "d",
        "deleted": False,
        "fields": fields(item_id),
    }
    return made | changed


FOREIGN: list[dict[str, Any]] = [
    {"deleted": False, "fields": {"catalog_id": "lamps"}},
    {"aggregate": ItemEvent.aggregate, "key": "lamps/zz", "fields": {"catalog_id": "lamps"}},
    entry("z", version="1"),
    entry("z", version=1.5),
    entry("z", digest=7),
    entry("z", deleted="false"),
    entry("z", key="elsewhere/z"),
    entry("z", key=5),
    entry("z", aggregate="orders.order"),
]
# Valid by their stamps, and no item.
UNFIT: list[dict[str, Any]] = [
    entry("z", fields=fields("z", name=7)),
    entry("z", fields=fields("other")),
    entry("z", fields=fields("z", attributes=["a"])),
    entry("z", fields=fields("z", attributes={"a": {"b": 1}})),
    entry("z", fields=fields("z") | {"item_id": None}),
    entry("z", fields={"catalog_id": "lamps"}),
]


async def plant(store: AsyncQdrantClient, payload: dict[str, Any], place: str) -> None:
    """The nearest of all to any question about lamps."""
    (vector,) = await EMBEDDER.embed(["lamp"])
    points = [models.PointStruct(id=place, vector=vector.tolist(), payload=payload)]
    await store.upsert(LIVE, points)


@pytest.mark.parametrize("payload", FOREIGN, ids=range(len(FOREIGN)))
async def test_a_foreign_point_is_told_by_its_id_and_in_no_search(
    http: Client, store: AsyncQdrantClient, postgres: Connection, payload: dict[str, Any]
) -> None:
    """FB3: also where it is nearer than everything else, and a page is one hit long."""
    await put(http, a={}, b={})
    await project(store, postgres)
    place = str(uuid4())
    await plant(store, payload, place)
    document = await told(http)
    assert (document["in_sync"], document["foreign"]) == (False, [place])
    assert document["counts"] == {"foreign": 1}
    assert await found(http) == ["a", "b"]
    assert len((await http.get(f"{SEARCH}&limit=1")).json()) == 1


@pytest.mark.parametrize("payload", UNFIT, ids=range(len(UNFIT)))
async def test_a_point_that_is_no_item_is_in_no_search(
    http: Client, store: AsyncQdrantClient, postgres: Connection, payload: dict[str, Any]
) -> None:
    """FB3: it stands under the id of a key, so that a check calls the key orphaned."""
    await put(http, a={}, b={})
    await project(store, postgres)
    await plant(store, payload, point_id(StreamKey(ItemEvent.aggregate, "lamps/z")))
    document = await told(http)
    assert (document["in_sync"], document["orphaned"]) == (False, ["lamps/z"])
    assert await found(http) == ["a", "b"]


@pytest.mark.parametrize("metadata", [None, {}, {"model": 7}, {"model": "another"}], ids=str)
async def test_a_collection_that_is_none_of_ours_is_an_outage_of_the_search(
    http: Client, store: AsyncQdrantClient, metadata: dict[str, Any] | None
) -> None:
    """FB3: the alias leads to what another program has made."""
    config = models.VectorParams(size=4, distance=models.Distance.COSINE)
    await store.create_collection("theirs", vectors_config=config, metadata=metadata)
    alias = models.CreateAlias(collection_name="theirs", alias_name=COLLECTION)
    await store.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    response = await http.get(SEARCH)
    assert (response.status_code, response.json()["type"][-11:]) == (503, "unavailable")


# Filters.

VALUES: dict[str, Any] = {
    "one": 1.0, "text_one": "1", "yes": True, "text_yes": "true", "no": False, "text_no": "false",
    "zero": 0.0, "half": 0.5, "large": 1e23, "thousand": 1000.0, "third": 1 / 3, "minus": -2.5,
    "colon": "a:b", "empty": "", "exact": 9007199254740992.0, "word": "north",
}  # fmt: skip
ASKED: dict[str, list[str]] = {
    "1": ["one", "text_one"], "1.0": ["one"], "1e0": ["one"], "01": [], "+1": [],
    "true": ["text_yes", "yes"], "false": ["no", "text_no"], "True": [], "0": ["zero"],
    "-0": ["zero"], "-0.0": ["zero"], "0.5": ["half"], "5e-1": ["half"], ".5": [],
    "1e3": ["thousand"], "1000": ["thousand"], "1_000": [], "1e23": ["large"], "1E+23": ["large"],
    "0.3333333333333333": ["third"], "0.333333333333333": [], "-2.5": ["minus"], "a:b": ["colon"],
    "": ["empty"], "9007199254740992": ["exact"], "9007199254740993": [], "north": ["word"],
    "100000000000000000000000": ["large"], "99999999999999991611392": [],
    "1.00000000000000000001": [], "nan": [], "inf": [], "1e999": [], "\u0661": [], "null": [],
}  # fmt: skip


async def test_a_filter_finds_texts_numbers_and_truths_that_read_like_it(
    http: Client, store: AsyncQdrantClient, postgres: Connection
) -> None:
    """FB4: over HTTP, with one attribute of every kind."""
    await put(http, **{name: {"a": value} for name, value in VALUES.items()})
    await put(http, lit={"lit": True, "price": 1}, dark={"lit": False, "price": 2.5})
    await project(store, postgres)
    for text, expected in ASKED.items():
        assert await found(http, f"a:{text}") == expected, text
    assert await found(http, "lit:true", "price:1") == ["lit"]
    assert await found(http, "lit:true", "price:2.5") == []


async def test_a_filter_finds_the_same_in_qdrants_own_engine(tmp_path: Path) -> None:
    """FB4"""
    pytest.importorskip("qdrant_edge", reason="qdrant-edge-py is not installed")
    engine = EdgeEngine(tmp_path)
    await engine.create("c", 2)
    points = [
        {"id": number, "vector": [1.0, 0.0],
         "payload": {"name": name, "fields": {"attributes": {"a": value}}}}
        for number, (name, value) in enumerate(VALUES.items())
    ]  # fmt: skip
    await engine.upsert("c", points, None)
    for text, expected in ASKED.items():
        wanted = models.Filter(must=[*conditions(parse_where([f"a:{text}"]))])
        records = await engine.filtered("c", wanted.model_dump(exclude_none=True))
        assert sorted(payload["name"] for _, payload, _ in records) == expected, text
    await engine.close()


@pytest.mark.parametrize(
    "where",
    ["", "a", ":b", "A:b", "1a:b", "a.b:c", "a[]:c", "a b:c", "\u00e4:b", "a" * 51 + ":b"],
    ids=lambda where: where[:6],
)
async def test_a_filter_that_is_none_is_refused_by_field_and_rule(http: Client, where: str) -> None:
    """FB4"""
    response = await http.get(SEARCH, params={"q": "lamp", "where": where})
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["query.where"]


async def test_an_attribute_is_asked_for_once(http: Client) -> None:
    """FB4"""
    response = await http.get(SEARCH, params={"q": "lamp", "where": ["a:1", "a:2"]})
    assert response.status_code == 422
    assert "at most once" in response.json()["errors"][0]["rule"]
