"""Problem: every HTTP error as an RFC 9457 document that names field and rule."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from outbox.errors import Contention, DependencyDown, MessageRejected
from schemas.errors import Violation
from services.methods import find_allowed
from services.trace import current_trace

log = structlog.get_logger()

TYPE = "urn:aftercommit:problem:"  # followed by the reason
MEDIA_TYPE = "application/problem+json"
# The HTTP status of each reason; any other reason is 422.
STATUS = {
    "not-http": 400,
    "idempotency-key-missing": 400,
    "not-found": 404,
    "method-not-allowed": 405,
    "conflict": 409,
    "too-slow": 408,
    "too-large": 413,
    "encoding": 415,
    "media-type": 415,
    "id-reused": 422,
    "unexpected": 500,
    "unavailable": 503,
    "search-unavailable": 503,
}
TITLES = {
    "not-http": "This is no request of HTTP/1.1",
    "json": "The body is not acceptable JSON",
    "schema": "The request breaks a rule",
    "envelope": "The request breaks a rule",
    "not-found": "There is no such thing",
    "conflict": "The request contradicts what is stored",
    "too-slow": "The request took too long to arrive",
    "too-large": "The request is too large",
    "method-not-allowed": "The path does not take this method",
    "encoding": "The body is encoded in a way that is not accepted",
    "media-type": "The body is of a type that is not accepted",
    "id-reused": "The Idempotency-Key was used for another request",
    "search-unavailable": "The search store is away",
    "unavailable": "A server behind this one is away",
    "idempotency-key-missing": "The request needs an Idempotency-Key",
    "unexpected": "The server made a mistake",
}
IDEMPOTENCY_KEY = "Idempotency-Key"
RETRY_AFTER_SECONDS = "2"
PATH = "/:@!$&'()*+,;=-._~"  # not escaped in a path, beside letters and digits


def problem(
    reason: str,
    violations: Iterable[Violation] = (),
    status: int | None = None,
    instance: str | None = None,
    title: str | None = None,
) -> JSONResponse:
    """The response with the document; its `type` is stable and ends in the machine-readable reason.

    `instance` is the decoded path of the request; it is left out where no request could be read.
    `trace_id` is that of the current request.
    """
    code = status or STATUS.get(reason, 422)
    content = {
        "type": f"{TYPE}{reason}",
        "title": title or TITLES.get(reason, reason),
        "status": code,
        **({"instance": quote(instance, safe=PATH)} if instance is not None else {}),
        "errors": [{"field": v.field, "rule": v.rule} for v in violations],
        "trace_id": current_trace().trace_id,
    }
    headers = {"Retry-After": RETRY_AFTER_SECONDS} if code == 503 else None
    return JSONResponse(content, code, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer the expected errors of routes by problem documents; web.traced answers all others."""
    app.add_exception_handler(MessageRejected, _answer_rejection)
    app.add_exception_handler(DependencyDown, _answer_unavailable)
    app.add_exception_handler(Contention, _answer_unavailable)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


def from_reply(reply: Mapping[str, object], instance: str) -> JSONResponse:
    """The problem document for a recorded rejection; it is the same at every delivery."""
    errors = reply.get("errors")
    violations = (
        [Violation(e["field"], e["rule"]) for e in errors] if isinstance(errors, list) else []
    )
    return problem(str(reply.get("reason")), violations, instance=instance)


async def _answer_rejection(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MessageRejected)  # noqa: S101 - as registered above
    return problem(error.reason, error.violations, instance=request.url.path)


async def _answer_unavailable(request: Request, error: Exception) -> JSONResponse:
    log.warning("dependency down", error=str(error))
    return problem("unavailable", instance=request.url.path)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as registered above
    if any(_is_missing_key(detail) for detail in error.errors()):
        return problem("idempotency-key-missing", instance=request.url.path)
    violations = [
        Violation(".".join(str(part)[:100] for part in detail["loc"]), detail["msg"])
        for detail in error.errors()[:20]
    ]
    return problem("schema", violations, instance=request.url.path)


def _is_missing_key(detail: Mapping[str, Any]) -> bool:
    """Whether the required Idempotency-Key is missing, which is answered by 400."""
    where, *name = map(str, detail["loc"])
    return detail["type"] == "missing" and where == "header" and name == [IDEMPOTENCY_KEY]


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    """Answer an error of the router, whose own `Allow` names the methods of one route only."""
    assert isinstance(error, HTTPException)  # noqa: S101 - as registered above
    reason = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http")
    response = problem(reason, status=error.status_code, instance=request.url.path)
    response.headers.update(error.headers or {})
    if error.status_code == 405:
        response.headers["Allow"] = find_allowed(request.scope)
    return response
