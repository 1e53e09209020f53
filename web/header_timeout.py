"""Connection: HTTP/1.1 as uvicorn speaks it, and a limit on how long a request's head may take."""

import asyncio
from http import HTTPStatus
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.problem import problem
from services.trace import new_trace, tracing

log = structlog.get_logger()


class TimedConnection(H11Protocol):
    """Ends where the next request has no whole head within `request_headers_timeout_seconds`.

    uvicorn knows no such limit: a client that says nothing, or a byte a minute, would keep its
    connection, and its file descriptor, for ever. This reaches into uvicorn; a change there would
    show in tests/faults/web/test_http_bodies.py.
    """

    request_headers_timeout_seconds = 10.0
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_head()

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._forget_head()
        elif self._head is None:
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is refused like all else: by a problem, whose trace id is logged."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()  # an answer is under way, and cannot be taken back
            return
        with tracing(new_trace(), "unknown", "unknown"):
            log.info("request refused", status=400, why=msg)
            refusal = problem("not-http")
        head = h11.Response(
            status_code=refusal.status_code,
            headers=[*refusal.raw_headers, (b"connection", b"close")],
            reason=HTTPStatus.BAD_REQUEST.phrase.encode(),
        )
        for event in (head, h11.Data(data=bytes(refusal.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _await_head(self) -> None:
        self._head = self.loop.call_later(
            self.request_headers_timeout_seconds, self.timeout_keep_alive_handler
        )

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


def limit_header_time(request_headers_timeout_seconds: float) -> type[TimedConnection]:
    """With this limit; uvicorn makes its connections from a class."""
    return type(
        "Limited",
        (TimedConnection,),
        {"request_headers_timeout_seconds": request_headers_timeout_seconds},
    )
