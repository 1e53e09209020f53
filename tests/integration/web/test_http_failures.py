"""Failures (FD1): an answer of 500 or above is logged with its trace, never with what was sent."""

import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from outbox.errors import DependencyDown
from tests.kit.web.airports import catalog_settings
from tests.kit.web.answers import problem
from tests.kit.web.served import served
from tests.kit.web.traces import GIVEN, TRACE, Lines
from web.app import Mounted, create_app
from web.draining import Draining
from web.traced import AnswerCut

pytestmark = pytest.mark.anyio

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
