"""Commands over HTTP: an Idempotency-Key names one command, which has one effect and one answer."""

import asyncio
import json

import pytest

from consumers.assembly import live_vectors
from consumers.commands import dispatch_envelope
from schemas.envelope import Envelope
from services.catalog.routes import Api
from tests.kit.web.airports import CATALOG, EMBEDDER, ITEM, ITEMS, Client, Connection, create, put
from tests.kit.web.answers import TABLES, broken_rules, stored

pytestmark = pytest.mark.anyio


async def test_the_same_key_and_request_have_one_effect_and_the_same_answer(
    caller: Client, postgres: Connection
) -> None:
    answers = [await create(caller, "one") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["result"] == {"created": True}
    rows = await stored(postgres)
    assert [len(rows[table]) for table in TABLES] == [2, 2, 1, 0, 1, 0]


async def test_the_same_key_eight_times_at_once_has_one_effect(
    caller: Client, postgres: Connection
) -> None:
    answers = await asyncio.gather(*(create(caller, "one") for _ in range(8)))
    assert len({(answer.status_code, answer.text) for answer in answers}) == 1
    rows = await stored(postgres)
    assert [len(rows[table]) for table in TABLES] == [2, 2, 1, 0, 1, 0]


async def test_a_refusal_is_the_same_at_every_delivery(airports: Client) -> None:
    answers = [await create(airports, "two", name="Other") for _ in range(2)]
    assert [broken_rules(answer, 409, "conflict") for answer in answers] == [
        [("name", "the catalog exists under another name")]
    ] * 2


async def test_the_same_key_with_another_body_is_refused(
    caller: Client, postgres: Connection
) -> None:
    await create(caller, "one")
    response = await create(caller, "one", name="Other")
    assert broken_rules(response, 422, "id-reused") == [
        ("id", "was used before with another payload")
    ]
    assert len((await stored(postgres))["catalog.catalogs"]) == 1
    assert (await create(caller, "one")).json()["result"] == {"created": True}


async def test_white_space_is_not_another_body(caller: Client) -> None:
    first = await create(caller, "one")
    spaced = json.dumps(CATALOG, indent=8).encode()
    headers = {"Idempotency-Key": "one", "Content-Type": "application/json"}
    second = await caller.post("/catalogs", content=spaced, headers=headers)
    assert second.text == first.text


async def test_a_post_needs_an_idempotency_key(caller: Client, postgres: Connection) -> None:
    before = await stored(postgres)
    response = await caller.post("/catalogs", json=CATALOG)
    broken_rules(response, 400, "idempotency-key-missing")
    for bad in ("", " ", "x" * 201):
        response = await caller.post("/catalogs", json=CATALOG, headers={"Idempotency-Key": bad})
        assert broken_rules(response, 422, "schema")
    assert await stored(postgres) == before


async def test_without_the_search_store_what_requires_it_is_refused(
    airports: Client, postgres: Connection
) -> None:
    response = await put(airports, require_search=True)
    assert [f for f, _ in broken_rules(response, 503, "search-unavailable")] == ["require_search"]
    assert response.headers["retry-after"]
    assert (await stored(postgres))["catalog.items"] == []
    assert (await put(airports)).status_code == 200


async def test_what_required_the_search_store_succeeds_when_sent_again_once_it_is_back(
    airports: Client, api: Api
) -> None:
    headers = {"Idempotency-Key": "again"}
    request = {"items": [ITEM], "require_search": True}
    broken_rules(
        await airports.put(ITEMS, json=request, headers=headers), 503, "search-unavailable"
    )
    await live_vectors(api.search._client, EMBEDDER).prepare()
    assert (await airports.put(ITEMS, json=request, headers=headers)).status_code == 200


async def test_a_refused_command_is_answered_the_same_whatever_its_white_space(api: Api) -> None:
    payload = b'{ "catalog_id": "c",  "item_id": "i" }'
    command = Envelope("m-1", "/test", "catalog.remove-item.v1", "c/i", payload)
    first = await dispatch_envelope(api.dispatcher, command)
    assert first["reason"] == "not-found"
    assert await dispatch_envelope(api.dispatcher, command) == first
