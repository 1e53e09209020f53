"""HTTP: bad input is refused by field and rule and stores nothing; a command has one effect."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from consumers.assembly import live_vectors
from consumers.commands import dispatch_envelope
from consumers.projections.projection import read_change
from outbox.write.database import Database
from schemas.envelope import Envelope
from services.assembly import catalog, qdrant
from services.catalog.embedder import WordLlamaEmbedder
from services.catalog.routes import Api
from services.settings import Settings
from web.app import application

pytestmark = pytest.mark.anyio

Client = httpx.AsyncClient
Connection = psycopg.AsyncConnection[Any]

EMBEDDER = WordLlamaEmbedder()
ITEM = {"item_id": "JFK", "name": "Kennedy", "text": "An airport in New York"}
CATALOG = {"catalog_id": "airports", "name": "Airports"}
ITEMS = "/catalogs/airports/items"


@pytest.fixture
def services(postgres_url: str, tmp_path: Path) -> Settings:
    return Settings(
        postgres_url=SecretStr(postgres_url),
        qdrant_url=f"file:{tmp_path / 'qdrant'}",
        connect_timeout_seconds=2,
    )


@pytest.fixture
async def api(services: Settings) -> AsyncIterator[Api]:
    """The catalog service, over a search store without a collection."""
    client = qdrant(services)
    async with Database(services, "catalog") as database:
        yield catalog(database, lambda: client, EMBEDDER)
    await client.close()


@pytest.fixture
async def http(api: Api) -> AsyncIterator[Client]:
    async with caller(application(api)) as client:
        yield client


@pytest.fixture
async def away(services: Settings) -> AsyncIterator[Client]:
    """A caller of the same service, whose servers are not there."""
    nowhere = {
        "postgres_url": SecretStr("postgresql://postgres@127.0.0.1:1/none"),
        "qdrant_url": "http://127.0.0.1:1",
    }
    settings = services.model_copy(update=nowhere)
    async with Database(settings, "catalog") as database:
        api = catalog(database, lambda: qdrant(settings), EMBEDDER)
        async with caller(application(api)) as client:
            yield client


def caller(app: FastAPI) -> Client:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return Client(transport=transport, base_url="http://test")


@pytest.fixture
async def airports(http: Client) -> Client:
    """The same caller, where the catalog `airports` exists."""
    await create(http, "setup")
    return http


async def create(http: Client, key: str, **changed: str) -> httpx.Response:
    return await http.post("/catalogs", json=CATALOG | changed, headers={"Idempotency-Key": key})


async def put(http: Client, *items: dict[str, Any], **more: Any) -> httpx.Response:
    return await http.put(ITEMS, json={"items": items or [ITEM], **more})


TABLES = [f"outbox.{name}" for name in ("messages", "streams", "receipts", "dead_letters")]
TABLES += [f"catalog.{name}" for name in ("catalogs", "items")]


async def stored(connection: Connection) -> dict[str, list[Any]]:
    """Every row that a request could have left."""
    found = {}
    for table in TABLES:
        rows = await connection.execute(f"SELECT row::text FROM {table} AS row ORDER BY 1".encode())  # noqa: S608 - ours
        found[table] = await rows.fetchall()
    return found


def problem(response: httpx.Response, status: int, reason: str) -> list[tuple[str, str]]:
    """The fields and rules of a problem document that is as it should be."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document.keys() == {"type", "title", "status", "instance", "errors", "trace_id"}
    assert document["type"] == f"urn:aftercommit:problem:{reason}"
    assert document["status"] == status
    assert document["instance"] == response.request.url.raw_path.decode().partition("?")[0]
    return [(error["field"], error["rule"]) for error in document["errors"]]


# Bad input.

NEW = b'{"catalog_id": "c", "name": %s}'
DEEP = b"[" * 200 + b"]" * 200


def body(**changed: Any) -> bytes:
    return json.dumps({"catalog_id": "c", "name": "n"} | changed).encode()


def items(**changed: Any) -> bytes:
    return json.dumps({"items": [ITEM | changed]}).encode()


BAD_BODIES = [
    pytest.param(b"", 422, "schema", "body", "required", id="no body"),
    pytest.param(b"{", 422, "json", "body", "JSON", id="not JSON"),
    pytest.param(b"[]", 422, "schema", "body", "dictionary", id="a list"),
    pytest.param(b"\xff", 422, "json", "body", "UTF-8", id="not UTF-8"),
    pytest.param(b'{"name": "n"}', 422, "schema", "body.catalog_id", "required", id="missing"),
    pytest.param(NEW % b"7", 422, "schema", "body.name", "string", id="wrong type"),
    pytest.param(NEW % b"NaN", 422, "json", "name", "finite", id="NaN"),
    pytest.param(NEW % b"1e400", 422, "json", "name", "finite", id="1e400"),
    pytest.param(NEW % b'"a", "name": "b"', 422, "json", "name", "once", id="duplicate key"),
    pytest.param(NEW % b'"a\\u0000"', 422, "json", "name", "NUL", id="NUL"),
    pytest.param(NEW % b'"\\ud800"', 422, "json", "name", "surrogate", id="lone surrogate"),
    pytest.param(NEW % DEEP, 422, "json", "name", "64 levels", id="depth 200"),
    pytest.param(NEW % (b"9" * 100_000), 422, "json", "body", "digits", id="10^5 digits"),
    pytest.param(b" " * (1 << 21), 413, "too-large", "body", "1048576", id="2 MiB"),
    pytest.param(body(catalog_id=""), 422, "schema", "body.catalog_id", "least 1", id="empty id"),
    pytest.param(body(catalog_id="a/b"), 422, "schema", "body.catalog_id", "pattern", id="slash"),
    pytest.param(body(name="x" * 10_000), 422, "schema", "body.name", "most 200", id="long name"),
    pytest.param(body(colour="red"), 422, "schema", "body.colour", "Extra", id="unknown field"),
]


@pytest.mark.parametrize(("content", "status", "reason", "field", "rule"), BAD_BODIES)
async def test_a_bad_body_is_refused_by_field_and_rule_and_stores_nothing(
    http: Client,
    postgres: Connection,
    content: bytes,
    status: int,
    reason: str,
    field: str,
    rule: str,
) -> None:
    headers = {"Idempotency-Key": "1", "Content-Type": "application/json"}
    before = await stored(postgres)
    response = await http.post("/catalogs", content=content, headers=headers)
    assert any(f == field and rule in r for f, r in problem(response, status, reason))
    assert await stored(postgres) == before


@pytest.mark.parametrize(("content", "status", "reason", "field", "rule"), BAD_BODIES)
async def test_a_bad_body_is_refused_before_any_transaction(
    away: Client, content: bytes, status: int, reason: str, field: str, rule: str
) -> None:
    """H4: without a PostgreSQL, where a good body is answered by 503."""
    headers = {"Idempotency-Key": "1", "Content-Type": "application/json"}
    response = await away.post("/catalogs", content=content, headers=headers)
    assert any(f == field and rule in r for f, r in problem(response, status, reason))
    problem(await create(away, "1"), 503, "unavailable")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"item_id": ""}, "body.items.0.item_id"),
        ({"item_id": "a/b"}, "body.items.0.item_id"),
        ({"name": "x" * 10_000}, "body.items.0.name"),
        ({"text": ""}, "body.items.0.text"),
        ({"colour": "red"}, "body.items.0.colour"),
        ({"attributes": {"A": 1}}, "body.items.0.attributes"),
        ({"attributes": {"a": None}}, "body.items.0.attributes"),
    ],
)
async def test_a_bad_item_is_refused_by_field_and_stores_nothing(
    airports: Client, postgres: Connection, changed: dict[str, Any], field: str
) -> None:
    before = await stored(postgres)
    json_type = {"Content-Type": "application/json"}
    response = await airports.put(ITEMS, content=items(**changed), headers=json_type)
    errors = problem(response, 422, "schema")
    assert errors
    assert all(name.startswith(field) and rule for name, rule in errors)
    assert await stored(postgres) == before


async def test_a_request_of_another_shape_is_refused_and_stores_nothing(
    airports: Client, postgres: Connection
) -> None:
    before = await stored(postgres)
    key = {"Idempotency-Key": "1"}
    gzip = await airports.post(
        "/catalogs", json=CATALOG, headers=key | {"Content-Encoding": "gzip"}
    )
    assert problem(gzip, 415, "encoding") == [("content-encoding", "must be identity")]
    plain = await airports.post(
        "/catalogs", content=body(), headers=key | {"Content-Type": "text/plain"}
    )
    assert problem(plain, 415, "media-type") == [("content-type", "must be application/json")]
    problem(await airports.post("/no-such-route", json=CATALOG, headers=key), 404, "not-found")
    problem(await airports.post("/catalogs/airports", json={}), 405, "method-not-allowed")
    problem(await airports.patch("/catalogs", json={}), 405, "method-not-allowed")
    problem(await airports.put("/catalogs/-/items", json={"items": [ITEM]}), 422, "schema")
    problem(await airports.delete(f"{ITEMS}/a%20b"), 422, "schema")
    assert await stored(postgres) == before


@pytest.mark.parametrize(
    "path",
    [
        ITEMS + "?after=%00",
        ITEMS + "?after=" + "x" * 101,
        ITEMS + "?limit=0",
        ITEMS + "?limit=501",
        ITEMS + "?limit=x",
        "/catalogs/%00",
        ITEMS + "/%00",
        ITEMS + "/" + "x" * 101,
        "/catalogs/airports/search",
        "/catalogs/airports/search?q=",
        "/catalogs/airports/search?q=a&where=nothing",
        "/catalogs/airports/search?q=a&where=A:b",
        "/catalogs/airports/search?q=a&where=a:b&where=a:c",
    ],
)
async def test_a_bad_question_is_refused(airports: Client, path: str) -> None:
    assert problem(await airports.get(path), 422, "schema")


async def test_a_refusal_never_repeats_the_value(http: Client) -> None:
    headers = {"Idempotency-Key": "1"}
    for changed in ({"catalog_id": "hunter2 !"}, {"name": ["hunter2"]}, {"name": "hunter2" * 99}):
        response = await http.post("/catalogs", json=CATALOG | changed, headers=headers)
        assert problem(response, 422, "schema")
        assert "hunter2" not in response.text


# Commands.


async def test_the_same_key_and_request_have_one_effect_and_the_same_answer(
    http: Client, postgres: Connection
) -> None:
    answers = [await create(http, "one") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["result"] == {"created": True}
    rows = await stored(postgres)
    assert [len(rows[table]) for table in TABLES] == [2, 2, 1, 0, 1, 0]


async def test_the_same_key_eight_times_at_once_has_one_effect(
    http: Client, postgres: Connection
) -> None:
    answers = await asyncio.gather(*(create(http, "one") for _ in range(8)))
    assert len({(answer.status_code, answer.text) for answer in answers}) == 1
    rows = await stored(postgres)
    assert [len(rows[table]) for table in TABLES] == [2, 2, 1, 0, 1, 0]


async def test_a_refusal_is_the_same_at_every_delivery(airports: Client) -> None:
    answers = [await create(airports, "two", name="Other") for _ in range(2)]
    assert [problem(answer, 409, "conflict") for answer in answers] == [
        [("name", "the catalog exists under another name")]
    ] * 2


async def test_the_same_key_with_another_body_is_refused(
    http: Client, postgres: Connection
) -> None:
    await create(http, "one")
    response = await create(http, "one", name="Other")
    assert problem(response, 422, "id-reused") == [("id", "was used before with another payload")]
    assert len((await stored(postgres))["catalog.catalogs"]) == 1
    assert (await create(http, "one")).json()["result"] == {"created": True}


async def test_white_space_is_not_another_body(http: Client) -> None:
    first = await create(http, "one")
    spaced = json.dumps(CATALOG, indent=8).encode()
    headers = {"Idempotency-Key": "one", "Content-Type": "application/json"}
    second = await http.post("/catalogs", content=spaced, headers=headers)
    assert second.text == first.text


async def test_a_post_needs_an_idempotency_key(http: Client, postgres: Connection) -> None:
    before = await stored(postgres)
    response = await http.post("/catalogs", json=CATALOG)
    problem(response, 400, "idempotency-key-missing")
    for bad in ("", " ", "x" * 201):
        response = await http.post("/catalogs", json=CATALOG, headers={"Idempotency-Key": bad})
        assert problem(response, 422, "schema")
    assert await stored(postgres) == before


async def test_an_unknown_catalog_is_not_found(http: Client, postgres: Connection) -> None:
    unknown = [("catalog_id", "must name an existing catalog")]
    assert problem(await put(http), 404, "not-found") == unknown
    assert problem(await http.get("/catalogs/airports"), 404, "not-found") == unknown
    assert (await stored(postgres))["catalog.items"] == []


async def test_an_item_is_put_read_listed_and_removed(airports: Client) -> None:
    assert (await put(airports)).json()["result"] == {"upserted": 1, "unchanged": 0}
    assert (await put(airports)).json()["result"] == {"upserted": 0, "unchanged": 1}
    assert (await put(airports, ITEM | {"name": "JFK"})).json()["result"]["upserted"] == 1
    found = (await airports.get(f"{ITEMS}/JFK")).json()
    shown = {**ITEM, "catalog_id": "airports", "name": "JFK", "attributes": {}, "version": 2}
    assert found == shown
    assert (await airports.get(ITEMS)).json() == [shown]
    assert (await airports.get("/catalogs/airports")).json() == CATALOG | {"items": 1}
    assert (await airports.delete(f"{ITEMS}/JFK")).json()["result"] == {"removed": True}
    problem(await airports.get(f"{ITEMS}/JFK"), 404, "not-found")
    problem(await airports.delete(f"{ITEMS}/JFK"), 404, "not-found")


async def test_items_are_listed_a_page_at_a_time(airports: Client) -> None:
    await put(airports, *[ITEM | {"item_id": f"i{n}"} for n in range(5)])
    pages = []
    after = ""
    while page := (await airports.get(ITEMS, params={"after": after, "limit": 2})).json():
        pages.append([item["item_id"] for item in page])
        after = pages[-1][-1]
    assert pages == [["i0", "i1"], ["i2", "i3"], ["i4"]]


@pytest.mark.parametrize("value", [0, -0.0, 2.5, 0.1, 1e23, 1e308, 5e-324, 2**53, True, ""])
async def test_the_same_item_again_is_no_new_version(airports: Client, value: Any) -> None:
    item = ITEM | {"attributes": {"value": value}}
    await put(airports, item)
    assert (await put(airports, item)).json()["result"] == {"upserted": 0, "unchanged": 1}
    assert (await airports.get(f"{ITEMS}/JFK")).json()["version"] == 1


@pytest.mark.parametrize(("before", "after"), [(True, 1), (1, True), (0, False), (1, "1")])
async def test_a_value_of_another_type_is_a_new_version(
    airports: Client, before: Any, after: Any
) -> None:
    """FA5: to Python, True equals 1."""
    await put(airports, ITEM | {"attributes": {"lit": before}})
    response = await put(airports, ITEM | {"attributes": {"lit": after}})
    assert response.json()["result"] == {"upserted": 1, "unchanged": 0}
    found = (await airports.get(f"{ITEMS}/JFK")).json()
    assert (found["version"], json.dumps(found["attributes"]["lit"])) in (
        (2, json.dumps(after)),
        (2, json.dumps(float(after))),
    )


@pytest.mark.parametrize("literal", ["9007199254740993", "0.12345678901234567890", "1e-400"])
async def test_a_number_that_could_not_be_kept_is_refused_and_nothing_is_stored(
    airports: Client, postgres: Connection, literal: str
) -> None:
    """FA6."""
    body = json.dumps({"items": [ITEM | {"attributes": {"n": 1}}]}).replace("1}", f"{literal}}}")
    response = await airports.put(ITEMS, content=body, headers={"content-type": "application/json"})
    ((field, _),) = problem(response, 422, response.json()["type"].rpartition(":")[2])
    assert field.removeprefix("body.") == "items.0.attributes.n"
    assert (await stored(postgres))["catalog.items"] == []


async def test_an_item_twice_in_a_command_changes_no_item(
    airports: Client, postgres: Connection
) -> None:
    response = await put(airports, ITEM, ITEM)
    assert [field for field, _ in problem(response, 422, "schema")] == ["items"]
    assert (await stored(postgres))["catalog.items"] == []


async def test_without_the_search_store_what_requires_it_is_refused(
    airports: Client, postgres: Connection
) -> None:
    response = await put(airports, require_search=True)
    assert [f for f, _ in problem(response, 503, "search-unavailable")] == ["require_search"]
    assert response.headers["retry-after"]
    assert (await stored(postgres))["catalog.items"] == []
    assert (await put(airports)).status_code == 200


async def test_what_required_the_search_store_succeeds_when_sent_again_once_it_is_back(
    airports: Client, api: Api
) -> None:
    headers = {"Idempotency-Key": "again"}
    request = {"items": [ITEM], "require_search": True}
    problem(await airports.put(ITEMS, json=request, headers=headers), 503, "search-unavailable")
    await live_vectors(api.search._client, EMBEDDER).prepare()
    assert (await airports.put(ITEMS, json=request, headers=headers)).status_code == 200


# The same commands through Kafka's door.


async def test_a_refused_command_is_answered_the_same_whatever_its_white_space(api: Api) -> None:
    payload = b'{ "catalog_id": "c",  "item_id": "i" }'
    command = Envelope("m-1", "/test", "catalog.remove-item.v1", "c/i", payload)
    first = await dispatch_envelope(api.dispatcher, command)
    assert first["reason"] == "not-found"
    assert await dispatch_envelope(api.dispatcher, command) == first


# Health, consistency.


async def test_ready_names_what_is_down(http: Client, api: Api) -> None:
    response = await http.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"postgres": "ready", "qdrant": "down"})
    await live_vectors(api.search._client, EMBEDDER).prepare()
    response = await http.get("/readyz")
    assert (response.status_code, response.json()) == (
        200,
        {"postgres": "ready", "qdrant": "ready"},
    )


async def test_ready_says_when_the_schema_is_behind(http: Client, postgres: Connection) -> None:
    await postgres.execute("DELETE FROM outbox.migrations WHERE component = 'catalog'")
    response = await http.get("/readyz")
    assert (response.status_code, response.json()["postgres"]) == (503, "down")


async def test_ready_says_when_a_migration_has_changed(http: Client, postgres: Connection) -> None:
    await postgres.execute("UPDATE outbox.migrations SET digest = 'x'")
    response = await http.get("/readyz")
    assert (response.status_code, response.json()["postgres"]) == (503, "down")


async def test_without_postgres_the_process_lives_and_says_what_is_down(
    away: Client,
) -> None:
    assert (await away.get("/livez")).json() == {"status": "live"}
    response = await away.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"postgres": "down", "qdrant": "down"}
    problem(await away.get("/catalogs/airports"), 503, "unavailable")
    problem(await away.get("/catalogs/airports/search?q=a"), 503, "unavailable")
    response = await create(away, "one")
    problem(response, 503, "unavailable")
    assert response.headers["retry-after"]


EVENTS = """
    SELECT id::text, type, aggregateid, payload, version FROM outbox.messages
    WHERE topic = 'catalog.item.events' ORDER BY position
"""


async def project(api: Api, postgres: Connection) -> None:
    """What the search store's consumer does with all events so far."""
    projection = live_vectors(api.search._client, EMBEDDER)
    await projection.prepare()
    rows = await (await postgres.execute(EVENTS)).fetchall()
    events = [
        Envelope(message_id, "/catalog", kind, key, payload.encode(), sequence=version)
        for message_id, kind, key, payload, version in rows
    ]
    await projection.apply([read_change(event) for event in events])


async def consistency(http: Client) -> dict[str, Any]:
    """What differs, and how many there are of what."""
    document: dict[str, Any] = (await http.get("/catalogs/airports/consistency")).json()
    return {name: value for name, value in document.items() if value not in ([], {})}


async def test_consistency_names_the_keys_that_differ(
    airports: Client, api: Api, postgres: Connection
) -> None:
    await project(api, postgres)
    await put(airports, *[ITEM | {"item_id": item_id} for item_id in "ab"])
    counts = {"postgres_items": 2, "qdrant_items": 0, "qdrant_tombstones": 0}
    missing = {"missing": ["airports/a", "airports/b"], "counts": {"missing": 2}}
    assert await consistency(airports) == {"in_sync": False} | counts | missing

    await project(api, postgres)
    assert await consistency(airports) == {"in_sync": True} | counts | {"qdrant_items": 2}
    hits = (await airports.get("/catalogs/airports/search?q=airport")).json()
    assert sorted(hit["item_id"] for hit in hits) == ["a", "b"]

    await put(airports, ITEM | {"item_id": "a", "name": "New"})
    stale = {"qdrant_items": 2, "stale": ["airports/a"], "counts": {"stale": 1}}
    assert await consistency(airports) == {"in_sync": False} | counts | stale


async def test_a_removed_item_is_in_sync_once_the_store_has_its_tombstone(
    airports: Client, api: Api, postgres: Connection
) -> None:
    await put(airports, *[ITEM | {"item_id": item_id} for item_id in "ab"])
    await airports.delete(f"{ITEMS}/b")
    await project(api, postgres)
    counts = {"postgres_items": 1, "qdrant_items": 1, "qdrant_tombstones": 1}
    assert await consistency(airports) == {"in_sync": True} | counts
