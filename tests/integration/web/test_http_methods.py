"""Methods (FD1): HEAD wherever GET is, `Allow` with every 405, OPTIONS, and paths that are not."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.kit.web.airports import ITEM, KEY, PATH, airports
from tests.kit.web.answers import problem
from tests.kit.web.served import RawClient, Served, request

pytestmark = pytest.mark.anyio

ITEMS = f"{PATH}/items"
METHODS = {"GET", "PUT", "POST", "PATCH", "DELETE", "TRACE", "BREW"}
READ = ["/livez", "/readyz", "/docs", "/redoc", "/openapi.json"]
READ += [PATH, ITEMS, f"{ITEMS}/JFK", f"{PATH}/search?q=a", f"{PATH}/consistency"]
NOWHERE = [
    "/", "/nowhere", "/catalogs/", f"{PATH}/", f"{ITEMS}/", f"{ITEMS}/JFK/", "/catalogs/a%2Fb/c",
    "//catalogs/airports", "/livez/", "/openapi.json/", "/CATALOGS/airports", "/catalogs/%ff/x",
]  # fmt: skip
ALLOWED = {
    "/livez": {"GET", "HEAD", "OPTIONS"},
    "/readyz": {"GET", "HEAD", "OPTIONS"},
    "/docs": {"GET", "HEAD", "OPTIONS"},
    "/openapi.json": {"GET", "HEAD", "OPTIONS"},
    "/catalogs": {"POST", "OPTIONS"},
    PATH: {"GET", "HEAD", "OPTIONS"},
    ITEMS: {"GET", "HEAD", "PUT", "OPTIONS"},
    f"{ITEMS}/JFK": {"GET", "HEAD", "DELETE", "OPTIONS"},
    f"{PATH}/search": {"GET", "HEAD", "OPTIONS"},
}


@pytest.fixture
async def http(service: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A caller, where the catalog `airports` has an item."""
    async with airports(service) as client:
        await client.put(ITEMS, json={"items": [ITEM]})
        yield client


def methods(response: httpx.Response) -> set[str]:
    return {method.strip() for method in response.headers["allow"].split(",")}


async def test_head_is_get_without_a_body_wherever_get_is(http: httpx.AsyncClient) -> None:
    for path in [*READ, "/catalogs/none", f"{ITEMS}/none", "/nowhere"]:
        get, head = await http.get(path), await http.head(path)
        assert head.status_code == get.status_code, path
        assert head.content == b""
        assert {**head.headers, "date": ""} == {**get.headers, "date": ""}, path


async def test_head_on_a_connection_leaves_it_ready_for_the_next_request(service: Served) -> None:
    client = await RawClient.to(service.port)
    await client.say(request("HEAD", "/livez"))
    head = await client._reader.readuntil(b"\r\n\r\n")
    await client.say(request("GET", "/livez"))
    status, body = await client.answer()
    await client.close()
    assert head.startswith(b"HTTP/1.1 200")
    assert (status, json.loads(body)) == (200, {"status": "live"})


async def test_a_405_allows_what_the_path_answers(http: httpx.AsyncClient) -> None:
    """This holds where several routes share a path, and for unknown methods."""
    for path, allowed in ALLOWED.items():
        for method in sorted(METHODS - allowed):
            response = await http.request(method, path)
            problem(response, 405, "method-not-allowed")
            assert methods(response) == allowed, (method, path)


async def test_the_case_of_a_method_counts(service: Served) -> None:
    client = await RawClient.to(service.port)
    await client.say(request("get", "/livez"))
    status, _ = await client.answer()
    await client.close()
    assert status == 405


async def test_what_the_body_holds_does_not_hide_that_the_method_is_not_allowed(
    http: httpx.AsyncClient,
) -> None:
    for content_type in ("application/json", "text/plain", "application/json; charset=utf-16"):
        headers = KEY | {"Content-Type": content_type}
        response = await http.patch("/catalogs", content=b"{", headers=headers)
        problem(response, 405, "method-not-allowed")
        assert methods(response) == {"POST", "OPTIONS"}
        problem(await http.post("/nowhere", content=b"{", headers=headers), 404, "not-found")


async def test_options_names_the_methods_of_each_path(
    http: httpx.AsyncClient, service: Served
) -> None:
    for path, allowed in ALLOWED.items():
        response = await http.options(path)
        assert (response.status_code, response.content) == (204, b""), path
        assert methods(response) == allowed
    problem(await http.options("/nowhere"), 404, "not-found")
    client = await RawClient.to(service.port)
    await client.say(request("OPTIONS", "*", Connection="close"))
    heard = await client.hear()
    await client.close()
    assert heard.startswith(b"HTTP/1.1 204")
    assert b"allow: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n" in heard


async def test_a_path_that_is_not_there_is_a_problem_and_never_a_redirect(
    http: httpx.AsyncClient,
) -> None:
    for path in NOWHERE:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            response = await http.request(method, path)
            assert response.status_code == 404, (method, path)
            assert response.headers["content-type"] == "application/problem+json"
            assert "location" not in response.headers
            if method != "HEAD":
                assert problem(response, 404, "not-found")["instance"].startswith("/")


async def test_what_is_no_http_is_a_problem_too(service: Served) -> None:
    for said in (b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nbroken header\r\n\r\n",
                 request("GET", "/livez", Content_Length="many")):  # fmt: skip
        client = await RawClient.to(service.port)
        await client.say(said)
        heard = await client.hear()
        await client.close()
        head, _, body = heard.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"content-type: application/problem+json" in head
        document = json.loads(body)
        assert document["type"] == "urn:aftercommit:problem:not-http"
        assert "instance" not in document  # which would have to be a path


@pytest.mark.parametrize("form", ["http://test", "HTTP://other:80", "https://u@[::1]:1"])
async def test_a_target_may_name_the_host_as_for_a_proxy(service: Served, form: str) -> None:
    """RFC 9112, 3.2.2: a server has to accept it."""
    client = await RawClient.to(service.port)
    asked = [("/livez", 200), ("/livez?a=/b", 200), ("/nowhere", 404), ("", 404), (PATH, 404)]
    for path, status in asked:
        await client.say(request("GET", f"{form}{path}"))
        answered, body = await client.answer()
        assert answered == status, path
        if status == 404:
            assert json.loads(body)["instance"] == (path or "/")
    await client.close()


async def test_an_unknown_catalog_is_not_found_and_an_empty_one_is_empty(
    service: Served,
) -> None:
    async with airports(service) as http:
        await unknown_is_not_empty(http)


async def unknown_is_not_empty(http: httpx.AsyncClient) -> None:
    for question in ("items", "items?after=z&limit=1", "search?q=a", "search?q=a&where=b:c"):
        empty = await http.get(f"{PATH}/{question}")
        assert (empty.status_code, empty.json()) == (200, []), question
        unknown = problem(await http.get(f"/catalogs/none/{question}"), 404, "not-found")
        rule = {"field": "catalog_id", "rule": "must name an existing catalog"}
        assert unknown["errors"] == [rule]
    assert (await http.get(f"{PATH}/consistency")).json()["in_sync"]
    problem(await http.get("/catalogs/none/consistency"), 404, "not-found")
    problem(await http.get("/catalogs/none/items/JFK"), 404, "not-found")


async def test_a_number_is_said_in_digits(http: httpx.AsyncClient) -> None:
    for bad in ("1.0", "1_0", "%201", "1%20", "%2B1", "", "0x1", "1e1", "9" * 5_000, "%D9%A1"):
        response = await http.get(f"{ITEMS}?limit={bad}")
        assert problem(response, 422, "schema")["errors"][0]["field"] == "query.limit", bad
    assert (await http.get(f"{ITEMS}?limit=01")).status_code == 200
