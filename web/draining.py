"""Draining: an application that is about to end says so, and serves until then."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.traced import Traced

READINESS = "/readyz"
CLOSE = (b"connection", b"close")


class Draining:
    """ASGI middleware: once `begin` was called, clients are sent elsewhere.

    Readiness answers 503, so that a load balancer sends nothing more. Each answer closes its
    connection, so that no client has a request under way when the connection ends.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._begun = False

    def begin(self) -> None:
        self._begun = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if self._begun and scope["type"] == "http" and scope["path"] == READINESS:
            app = Traced(JSONResponse({"process": "draining"}, 503))
        await app(scope, receive, self._close_after(send))

    def _close_after(self, send: Send) -> Send:
        """Check when the answer starts, since a request may have come before `begin`."""

        async def send_closing(message: Message) -> None:
            if self._begun and message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], CLOSE]}
            await send(message)

        return send_closing
