"""Traces (FD1): one id for a request: in its problem, in each of its log lines, in its messages."""

import json
import logging
import traceback
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import structlog
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from structlog.testing import LogCapture

from outbox.errors import DependencyDown
from outbox.runtime import logs
from services.trace import Trace, tracing
from tests.kit.http.over_http import (
    CATALOG,
    ITEM,
    PATH,
    airports,
    catalog_service,
    catalog_settings,
    problem,
)
from tests.kit.http.served import RawClient, Served, request, served
from web.app import Mounted, create_app
from web.draining import Draining
from web.traced import AnswerCut

pytestmark = pytest.mark.anyio

Lines = list[MutableMapping[str, Any]]

ITEMS = f"{PATH}/items"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Every line that a logger of ours writes, whatever its level, with what it is bound to."""
    capture = LogCapture()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, capture],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        cache_logger_on_first_use=False,
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in _modules():
            patch.setattr(module, "log", structlog.get_logger())
        yield capture.entries
    logs.configure("console", "error")


def _modules() -> list[Any]:
    """Those that keep a logger, which may have been made before this test."""
    from services import dispatcher, problem
    from web import header_timeout, traced

    return [header_timeout, problem, dispatcher, traced]


@pytest.fixture
async def service(postgres_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with catalog_service(postgres_url, tmp_path) as service:
        yield service


@pytest.fixture
async def http(service: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with airports(service) as client:
        yield client


async def test_a_problem_has_the_trace_of_its_request_and_so_has_the_log(
    http: httpx.AsyncClient, lines: Lines
) -> None:
    """Whoever refuses: the router, a middleware, a validator, a handler, a recorded reply."""
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
    """Not the server's beside ours, and not the trace of the request before on its connection."""
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


# At 500 and above.

SECRET = "hunter2"  # noqa: S105 - no secret, but what stands for one here
broken = APIRouter()


@broken.put("/broken/{how}")
async def break_down(how: str, body: dict[str, str]) -> dict[str, str]:
    if how == "down":
        raise DependencyDown("postgres", "the connection is lost")
    if how == "chained":
        try:
            int(body["secret"])
        except ValueError as error:
            raise RuntimeError(f"cannot {body}") from error
    raise ValueError(f"cannot {body}")


@broken.get("/half")
async def half() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError(SECRET)

    return StreamingResponse(parts())


@pytest.mark.parametrize(("how", "status"), [("down", 503), ("chained", 500), ("surprise", 500)])
async def test_a_failure_is_logged_with_its_request_and_never_with_what_was_sent(
    lines: Lines, how: str, status: int
) -> None:
    app = create_app([Mounted("broken", broken, None)], {})
    transport = httpx.ASGITransport(app)  # which would raise what nobody answers
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"traceparent": GIVEN, "Authorization": SECRET}
        response = await client.put(
            f"/broken/{how}?token={SECRET}", json={"secret": SECRET}, headers=headers
        )
    problem(response, status, "unavailable" if status == 503 else "unexpected")
    assert response.json()["trace_id"] == TRACE
    assert SECRET not in response.text
    assert SECRET not in str(lines)
    for line in lines:
        assert (line["trace_id"], line["method"], line["path"]) == (TRACE, "PUT", f"/broken/{how}")
    [failed] = [line for line in lines if line["event"] == "request failed"]
    assert (failed["status"], failed["log_level"]) == (status, "warning")
    if status == 500:
        [why] = [line for line in lines if line["event"] == "unexpected error"]
        assert why["error"].startswith("RuntimeError from ValueError" if how == "chained" else "Va")
        assert "break_down" in why["where"]


async def test_half_an_answer_is_cut_and_logged(lines: Lines) -> None:
    app = create_app([Mounted("broken", broken, None)], {})
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        with pytest.raises(AnswerCut) as cut:
            await client.get("/half", headers={"traceparent": GIVEN})
    assert SECRET not in "".join(traceback.format_exception(cut.value))
    [line] = lines
    assert (line["event"], line["trace_id"]) == ("unexpected error", TRACE)


async def test_a_service_that_is_not_ready_or_drains_logs_it_with_the_trace(
    postgres_url: str, tmp_path: Path, lines: Lines
) -> None:
    async with (
        served(catalog_settings(postgres_url, tmp_path)) as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        response = await client.get("/readyz", headers={"traceparent": GIVEN})
    assert (response.status_code, response.json()["qdrant"]) == (503, "down")
    draining = Draining(create_app([], {}))
    draining.begin()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(draining), base_url="http://test"
    ) as client:
        response = await client.get("/readyz", headers={"traceparent": GIVEN})
    assert (response.status_code, response.json()) == (503, {"process": "draining"})
    failed = [line for line in lines if line["event"] == "request failed"]
    assert [(line["path"], line["trace_id"]) for line in failed] == [("/readyz", TRACE)] * 2


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
    """Also on one connection, where the second has no trace of its own."""
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
