"""What a request over HTTP leaves: its rows, and the problem document of one that was refused."""

from typing import Any

import httpx

from tests.kit.web.airports import Connection

MEMBERS = {"type", "title", "status", "instance", "errors", "trace_id"}
TABLES = [f"outbox.{name}" for name in ("messages", "streams", "receipts", "dead_letters")]
TABLES += [f"catalog.{name}" for name in ("catalogs", "items")]


async def stored(connection: Connection) -> dict[str, list[Any]]:
    """Every row that a request could have left, by table."""
    found = {}
    for table in TABLES:
        rows = await connection.execute(f"SELECT row::text FROM {table} AS row ORDER BY 1".encode())  # noqa: S608 - ours
        found[table] = await rows.fetchall()
    return found


def problem(response: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    """The problem document, which is as RFC 9457 and our OpenAPI document require it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document.keys() == MEMBERS
    assert document["type"] == f"urn:aftercommit:problem:{reason}"
    assert document["status"] == status
    return document


def broken_rules(response: httpx.Response, status: int, reason: str) -> list[tuple[str, str]]:
    """The fields and rules of such a problem document, which names the path that was asked for."""
    document = problem(response, status, reason)
    assert document["instance"] == response.request.url.raw_path.decode().partition("?")[0]
    return [(error["field"], error["rule"]) for error in document["errors"]]
