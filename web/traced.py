"""Traced: every request has a trace, and none ends without an answer or a log line."""

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outbox.errors import to_outbox_error
from services.problem import problem
from services.trace import describe_error, read_trace, tracing

log = structlog.get_logger()


class AnswerCut(Exception):
    """Tells the server to end the connection; the server logs this, not the text of the error."""


class Traced:
    """ASGI middleware around all others: sets the trace, and answers unexpected errors by 500.

    Each refusal is a line in the log, with method, path and trace id, and never with a body or a
    header; at 500 and above it is a warning. If an error comes after an answer has begun, the
    connection ends, so that no client takes half an answer for a whole one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with tracing(read_trace(scope["headers"]), scope["method"], scope["path"]):
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_logged(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                _log_refusal(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_logged)
        except Exception as error:
            reason = _log_error(error)
            if begun:
                raise AnswerCut("an error came after the answer had begun") from None
            await problem(reason, instance=scope["path"])(scope, receive, send_logged)


def _log_error(error: Exception) -> str:
    """Log the error, and return the problem's reason.

    A dependency's error may stand in an exception group, or be the cause of another one.
    """
    if away := to_outbox_error(error):
        log.warning("dependency down", error=str(away))
        return "unavailable"
    log.error("unexpected error", **describe_error(error))
    return "unexpected"


def _log_refusal(status: int) -> None:
    if status >= 500:
        log.warning("request failed", status=status)
    elif status >= 400:
        log.info("request refused", status=status)
