"""Media types (FD1): a body says that it is JSON in UTF-8, or it is 415 and says what is taken."""

import json

import httpx
import pytest

from tests.kit.web.airports import CATALOG, ITEM, KEY, PATH
from tests.kit.web.answers import problem
from tests.kit.web.served import RawClient, Served, request

pytestmark = pytest.mark.anyio

ITEMS = f"{PATH}/items"
BODY = json.dumps(CATALOG).encode()
TAKEN = [
    "application/json",
    "Application/JSON",
    "application/json;charset=utf-8",
    'application/json ; Charset="UTF-8"',
    "application/json; charset=utf8",
    "application/json; profile=x",
    "application/vnd.catalog.v1+json",
    "application/merge-patch+JSON; charset=UTF-8",
]
REFUSED = [
    None,
    "",
    "json",
    "text/plain",
    "text/json",
    "application/jsonp",
    "application/+json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json, text/plain",
    "application/json/x",
    "image/svg+json",
    "application/json; charset=utf-16",
    "application/json; charset=latin1",
    "application/json; charset=utf-8; charset=utf-16",
    "application/json; charset*=utf-8''utf-16",
    "application/json; charset",
    "application/json; charset=",
]
CODINGS = ["gzip", "br", "identity, gzip", "GZIP"]
ANY_TYPE = ["application/json", "text/plain", None]


async def test_json_in_utf8_is_taken_however_it_is_spelled(http: httpx.AsyncClient) -> None:
    for content_type in TAKEN:
        headers = KEY | {"Content-Type": content_type}
        response = await http.post("/catalogs", content=BODY, headers=headers)
        assert (response.status_code, response.json()["result"]) == (201, {"created": True})


async def test_another_type_is_415_and_names_the_one_that_is_taken(http: httpx.AsyncClient) -> None:
    for content_type in REFUSED:
        headers = {"Idempotency-Key": "2"} | (
            {"Content-Type": content_type} if content_type else {}
        )
        response = await http.post("/catalogs", content=BODY, headers=headers)
        [error] = problem(response, 415, "media-type")["errors"]
        assert error["field"] == "content-type"
        assert response.headers["accept"] == "application/json"
        assert response.headers["accept-post"] == "application/json"
        changed = await http.put(ITEMS, content=b'{"items": []}', headers=headers)
        problem(changed, 415, "media-type")
        assert "accept-post" not in changed.headers


async def test_a_body_with_two_types_is_415(service: Served, http: httpx.AsyncClient) -> None:
    del http  # the catalog is there
    said = request("POST", "/catalogs", BODY, Idempotency_Key="2", Content_Type="application/json")
    twice = said.replace(b"\r\n\r\n", b"\r\ncontent-type: application/json\r\n\r\n", 1)
    client = await RawClient.to(service.port)
    await client.say(twice)
    status, body = await client.answer()
    await client.close()
    assert (status, json.loads(body)["type"]) == (415, "urn:aftercommit:problem:media-type")


async def test_a_compressed_body_is_415_and_says_so(http: httpx.AsyncClient) -> None:
    for coding in CODINGS:
        headers = KEY | {"Content-Type": "application/json", "Content-Encoding": coding}
        response = await http.post("/catalogs", content=BODY, headers=headers)
        problem(response, 415, "encoding")
        assert response.headers["accept-encoding"] == "identity"
        headers["Content-Encoding"] = "Identity"
        assert (await http.post("/catalogs", content=BODY, headers=headers)).status_code == 201


async def test_without_a_body_the_body_is_what_is_missing(http: httpx.AsyncClient) -> None:
    for content_type in ANY_TYPE:
        headers = KEY | ({"Content-Type": content_type} if content_type else {})
        for method, path in (("POST", "/catalogs"), ("PUT", ITEMS)):
            response = await http.request(method, path, headers=headers)
            [error] = problem(response, 422, "schema")["errors"]
            assert error["field"] == "body"


async def test_utf16_is_refused_also_where_it_says_to_be_json(http: httpx.AsyncClient) -> None:
    headers = KEY | {"Content-Type": "application/json"}
    content = json.dumps(CATALOG).encode("utf-16")
    problem(await http.post("/catalogs", content=content, headers=headers), 422, "json")


async def test_a_body_that_nobody_asked_for_means_nothing(http: httpx.AsyncClient) -> None:
    await http.put(ITEMS, json={"items": [ITEM]})
    headers = {"Content-Type": "text/plain; charset=utf-16"}
    for method, path in (("GET", ITEMS), ("HEAD", ITEMS), ("OPTIONS", ITEMS), ("GET", "/livez"),
                         ("DELETE", f"{ITEMS}/JFK")):  # fmt: skip
        response = await http.request(method, path, content=b"\xff{", headers=headers)
        assert response.is_success, (method, path)


async def test_a_value_of_another_type_is_never_taken_for_the_right_one(
    http: httpx.AsyncClient,
) -> None:
    for require_search in ("true", 1, 0, "no", None):
        body = {"items": [ITEM], "require_search": require_search}
        response = await http.put(ITEMS, json=body)
        [error] = problem(response, 422, "schema")["errors"]
        assert error["field"] == "body.require_search"
