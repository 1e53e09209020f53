"""Bad input over HTTP is refused by field and rule before any transaction, and stores nothing."""

import json
from typing import Any

import pytest

from tests.kit.web.airports import CATALOG, ITEM, ITEMS, Client, Connection, create
from tests.kit.web.answers import broken_rules, stored

pytestmark = pytest.mark.anyio

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
    caller: Client,
    postgres: Connection,
    content: bytes,
    status: int,
    reason: str,
    field: str,
    rule: str,
) -> None:
    headers = {"Idempotency-Key": "1", "Content-Type": "application/json"}
    before = await stored(postgres)
    response = await caller.post("/catalogs", content=content, headers=headers)
    assert any(f == field and rule in r for f, r in broken_rules(response, status, reason))
    assert await stored(postgres) == before


@pytest.mark.parametrize(("content", "status", "reason", "field", "rule"), BAD_BODIES)
async def test_a_bad_body_is_refused_before_any_transaction(
    away: Client, content: bytes, status: int, reason: str, field: str, rule: str
) -> None:
    """H4: without a PostgreSQL, where a good body is answered by 503."""
    headers = {"Idempotency-Key": "1", "Content-Type": "application/json"}
    response = await away.post("/catalogs", content=content, headers=headers)
    assert any(f == field and rule in r for f, r in broken_rules(response, status, reason))
    broken_rules(await create(away, "1"), 503, "unavailable")


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
    errors = broken_rules(response, 422, "schema")
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
    assert broken_rules(gzip, 415, "encoding") == [("content-encoding", "must be identity")]
    plain = await airports.post(
        "/catalogs", content=body(), headers=key | {"Content-Type": "text/plain"}
    )
    assert broken_rules(plain, 415, "media-type") == [("content-type", "must be application/json")]
    broken_rules(await airports.post("/no-such-route", json=CATALOG, headers=key), 404, "not-found")
    broken_rules(await airports.post("/catalogs/airports", json={}), 405, "method-not-allowed")
    broken_rules(await airports.patch("/catalogs", json={}), 405, "method-not-allowed")
    broken_rules(await airports.put("/catalogs/-/items", json={"items": [ITEM]}), 422, "schema")
    broken_rules(await airports.delete(f"{ITEMS}/a%20b"), 422, "schema")
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
    assert broken_rules(await airports.get(path), 422, "schema")


async def test_a_refusal_never_repeats_the_value(caller: Client) -> None:
    headers = {"Idempotency-Key": "1"}
    for changed in ({"catalog_id": "hunter2 !"}, {"name": ["hunter2"]}, {"name": "hunter2" * 99}):
        response = await caller.post("/catalogs", json=CATALOG | changed, headers=headers)
        assert broken_rules(response, 422, "schema")
        assert "hunter2" not in response.text
