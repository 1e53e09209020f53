"""Header timeout: uvicorn's HTTP/1.1 with a limit on how long request headers may take."""

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
    """Closes unless the next request's headers are complete in `request_headers_timeout_seconds`.

    uvicorn has no such limit: a client that sends nothing, or a byte a minute, would keep its
    connection, and its file descriptor, for ever. This class uses internals of uvicorn; if they
    change, tests/faults/web/test_http_bodies.py fails.
    """

    request_headers_timeout_seconds = 10.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._timer is None:
            self._start_timer()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP by a problem document, too, and log its trace id."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()  # an answer has begun, and cannot be replaced
            return
        with tracing(new_trace(), "unknown", "unknown"):
            log.info("request refused", status=400, why=msg)
            refusal = problem("not-http")
        start = h11.Response(
            status_code=refusal.status_code,
            headers=[*refusal.raw_headers, (b"connection", b"close")],
            reason=HTTPStatus.BAD_REQUEST.phrase.encode(),
        )
        for event in (start, h11.Data(data=bytes(refusal.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(
            self.request_headers_timeout_seconds, self.timeout_keep_alive_handler
        )

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def limit_header_time(request_headers_timeout_seconds: float) -> type[TimedConnection]:
    """A connection class with this limit: uvicorn takes a class, not an object."""
    return type(
        "Limited",
        (TimedConnection,),
        {"request_headers_timeout_seconds": request_headers_timeout_seconds},
    )
