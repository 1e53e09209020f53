"""Traces (FD1): one id for a request: in its problem, in each of its log lines, in its messages."""

import json
import logging
from typing import Any

import httpx
import psycopg
import pytest

from outbox.runtime import logs
from services.trace import Trace, tracing
from tests.kit.web.airports import CATALOG, ITEM, ITEMS, PATH
from tests.kit.web.answers import problem
from tests.kit.web.served import RawClient, Served, request
from tests.kit.web.traces import GIVEN, SPAN, TRACE, Lines

pytestmark = pytest.mark.anyio


async def test_a_problem_has_the_trace_of_its_request_and_so_has_the_log(
    http: httpx.AsyncClient, lines: Lines
) -> None:
    """The router, a middleware, a validator, a handler or a recorded reply may refuse it."""
    key, json_type = {"Idempotency-Key": "k"}, {"Content-Type": "application/json"}
    asked: list[tuple[str, str, dict[str, Any], int]] = [
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/livez", {}, 405),
        ("GET", "/catalogs/none", {}, 404),
        ("GET", f"{ITEMS}?limit=x", {}, 422),
        ("POST", "/catalogs", {"content": b"{", "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", "/catalogs", {"content": b"{", "headers": {"Content-Encoding": "br"}}, 415),
        ("POST", "/catalogs", {"content": b"{", "headers": json_type}, 422),
        ("POST", "/catalogs", {"json": CATALOG}, 400),
        ("POST", "/catalogs", {"json": CATALOG | {"name": "x"}, "headers": key}, 409),
        ("DELETE", f"{ITEMS}/none", {}, 404),
    ]  # fmt: skip
    for number, (method, path, options, status) in enumerate(asked, 1):
        trace = f"{number:032x}"
        headers = options.pop("headers", {}) | {"traceparent": f"00-{trace}-{SPAN}-01"}
        lines.clear()
        response = await http.request(method, path, headers=headers, **options)
        assert response.status_code == status, (method, path, response.text)
        assert response.json()["trace_id"] == trace
        assert [line["trace_id"] for line in lines] == [trace] * len(lines)
        [line] = [line for line in lines if line["event"] == "request refused"]
        assert (line["method"], line["path"]) == (method, path.partition("?")[0])
        assert (line["status"], line["log_level"]) == (status, "info")


INVALID = [
    "",
    "x",
    GIVEN.upper(),
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-{SPAN}-01",
    f"{GIVEN}-more",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE[1:]}-{SPAN}-01",
    f"00-{TRACE}x-{SPAN}-01",
    f"{GIVEN},{GIVEN}",
    GIVEN.replace("4", "g"),
    f"01-{TRACE}-{SPAN}-01x",
    GIVEN * 1_000,
    "é" * 30,
]


async def test_a_broken_traceparent_begins_a_new_trace_and_is_no_error(
    http: httpx.AsyncClient,
) -> None:
    seen = set()
    for value in INVALID:
        headers = [(b"traceparent", value.encode())]
        assert (await http.get(PATH, headers=headers)).status_code == 200, value
        document = problem(await http.get("/nowhere", headers=headers), 404, "not-found")
        seen.add(document["trace_id"])
    twice = [("traceparent", GIVEN), ("traceparent", GIVEN)]
    seen.add((await http.get("/nowhere", headers=twice)).json()["trace_id"])
    assert len(seen) == len(INVALID) + 1
    assert TRACE not in seen
    assert all(len(each) == 32 and int(each, 16) for each in seen)


SENT = """
    SELECT headers->>'traceparent' FROM outbox.messages WHERE aggregateid LIKE %s ORDER BY position
"""


async def test_what_a_request_publishes_belongs_to_its_trace(
    http: httpx.AsyncClient, postgres: psycopg.AsyncConnection[Any]
) -> None:
    """The events and the answer; a newer version's header is passed on as one of version 00."""
    asked = [
        (GIVEN, GIVEN),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-ff", f"00-{TRACE}-{SPAN}-03"),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-then" + "x" * 2_000, GIVEN),
    ]
    for number, (given, expected) in enumerate(asked):
        item = ITEM | {"item_id": f"i{number}"}
        response = await http.put(ITEMS, json={"items": [item]}, headers={"traceparent": given})
        assert response.status_code == 200
        rows = await (await postgres.execute(SENT, (f"airports/i{number}",))).fetchall()
        assert rows == [(expected,)] * 2


async def test_without_a_traceparent_the_new_trace_is_published_and_logged(
    http: httpx.AsyncClient, postgres: psycopg.AsyncConnection[Any], lines: Lines
) -> None:
    document = problem(await http.delete(f"{ITEMS}/none"), 404, "not-found")
    rows = await (await postgres.execute(SENT, ("airports/none",))).fetchall()
    trace = document["trace_id"]
    assert [value.split("-")[:2] for (value,) in rows] == [["00", trace]]
    assert {line["event"] for line in lines} == {"command rejected", "request refused"}
    assert {line["trace_id"] for line in lines} == {trace}


async def test_a_repeated_command_is_one_command_whatever_its_trace(
    http: httpx.AsyncClient,
) -> None:
    answers = [
        await http.put(
            ITEMS,
            json={"items": [ITEM]},
            headers={"Idempotency-Key": "same", "traceparent": traceparent},
        )
        for traceparent in (GIVEN, "", GIVEN.replace("4", "5"))
    ]
    assert len({(answer.status_code, answer.text) for answer in answers}) == 1


async def test_a_request_that_is_no_http_has_a_trace_in_the_log(
    service: Served, lines: Lines
) -> None:
    client = await RawClient.to(service.port)
    await client.say(b"hello\r\n\r\n")
    body = (await client.hear()).partition(b"\r\n\r\n")[2]
    await client.close()
    assert json.loads(body)["trace_id"] in {line["trace_id"] for line in lines}


async def test_a_refused_request_is_one_line_of_log_with_a_trace_of_its_own(
    service: Served, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    """The server adds no line of its own, and the trace is not that of the request before it."""
    asked = request("GET", "/livez", traceparent=GIVEN, Connection="Upgrade", Upgrade="websocket")
    client = await RawClient.to(service.port)
    await client.say(asked + b"hello\r\n\r\n")
    heard = await client.hear()
    await client.close()
    [line] = lines
    assert (line["event"], line["status"]) == ("request refused", 400)
    assert line["trace_id"] == json.loads(heard.rpartition(b"\r\n\r\n")[2])["trace_id"]
    assert line["trace_id"] != TRACE
    assert caplog.messages == []


def test_a_librarys_line_names_the_request_too(capfd: pytest.CaptureFixture[str]) -> None:
    writer = logs.configure("json", "info")
    with tracing(Trace(TRACE, SPAN), "GET", PATH):
        logging.getLogger("some.library").warning("hello")
    writer.flush(10.0)
    logs.configure("console", "error")
    said = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "hello" in line]
    assert {(line["event"], line["trace_id"], line["path"]) for line in said} == {
        ("hello", TRACE, PATH)
    }


async def test_a_path_is_logged_short_and_without_control_characters(
    http: httpx.AsyncClient, lines: Lines
) -> None:
    await http.get("/" + "%1b[31m%0a" * 1_000)
    [line] = lines
    assert len(line["path"]) <= 100
    assert line["path"].isprintable()


async def test_the_log_of_one_request_never_names_another(service: Served, lines: Lines) -> None:
    """This holds on one connection, too, where the second request has no trace of its own."""
    client = await RawClient.to(service.port)
    found = []
    for given in (GIVEN, ""):
        await client.say(request("GET", "/nowhere", traceparent=given))
        _, body = await client.answer()
        found.append(json.loads(body)["trace_id"])
    await client.close()
    assert found[0] == TRACE
    assert found[1] != TRACE
    assert [line["trace_id"] for line in lines] == found
