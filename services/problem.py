"""Problem: every HTTP error as an RFC 9457 document that names field and rule."""

from collections.abc import Iterable, Mapping
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from outbox.errors import Contention, DependencyDown, MessageRejected, in_our_words
from schemas.errors import Violation

log = structlog.get_logger()

STATUS = {
    "not-found": 404,
    "conflict": 409,
    "too-slow": 408,
    "too-large": 413,
    "encoding": 415,
    "id-reused": 422,
    "search-unavailable": 503,
}
TITLES = {
    "json": "The body is not acceptable JSON",
    "schema": "The request breaks a rule",
    "envelope": "The request breaks a rule",
    "not-found": "There is no such thing",
    "conflict": "The request contradicts what is stored",
    "too-slow": "The request took too long to arrive",
    "too-large": "The request is too large",
    "encoding": "The body is encoded in a way that is not accepted",
    "id-reused": "The Idempotency-Key was used for another request",
    "search-unavailable": "The search store is away",
    "unavailable": "A server behind this one is away",
    "idempotency-key-missing": "The request needs an Idempotency-Key",
    "unexpected": "The server made a mistake",
}
RETRY_AFTER_SECONDS = "2"


def problem(
    reason: str,
    violations: Iterable[Violation] = (),
    status: int | None = None,
    instance: str | None = None,
    title: str | None = None,
) -> JSONResponse:
    """The document; `type` is stable and ends in the machine-readable reason."""
    code = status or STATUS.get(reason, 422)
    content = {
        "type": f"urn:aftercommit:problem:{reason}",
        "title": title or TITLES.get(reason, reason),
        "status": code,
        "instance": instance,
        "errors": [{"field": v.field, "rule": v.rule} for v in violations],
        "trace_id": uuid4().hex,
    }
    headers = {"Retry-After": RETRY_AFTER_SECONDS} if code == 503 else None
    return JSONResponse(content, code, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every exception that leaves a route with a problem document."""
    app.add_exception_handler(MessageRejected, _rejected)
    app.add_exception_handler(DependencyDown, _unavailable)
    app.add_exception_handler(Contention, _unavailable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def from_reply(reply: Mapping[str, object], instance: str) -> JSONResponse:
    """The problem that a recorded rejection stands for; the same at every delivery."""
    errors = reply.get("errors")
    violations = (
        [Violation(e["field"], e["rule"]) for e in errors] if isinstance(errors, list) else []
    )
    return problem(str(reply.get("reason")), violations, instance=instance)


async def _rejected(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MessageRejected)  # noqa: S101 - as registered above
    return problem(error.reason, error.violations, instance=request.url.path)


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    log.warning("dependency down", error=str(error))
    return problem("unavailable", status=503, instance=request.url.path)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as registered above
    violations = [
        Violation(".".join(str(part)[:100] for part in detail["loc"]), detail["msg"])
        for detail in error.errors()[:20]
    ]
    return problem("schema", violations, instance=request.url.path)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - as registered above
    reason = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http")
    title = str(error.detail)
    return problem(reason, status=error.status_code, instance=request.url.path, title=title)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    if away := in_our_words(error):  # in a group, or at the bottom of a chain
        return await _unavailable(request, away)
    log.error("unexpected", path=request.url.path, error=type(error).__name__, exc_info=error)
    return problem("unexpected", status=500, instance=request.url.path)
