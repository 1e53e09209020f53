"""Farewell: an application that is about to end says so, and serves all the same."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.traced import Traced

READINESS = "/readyz"
CLOSE = (b"connection", b"close")


class Draining:
    """ASGI middleware: once `begin` was called, whoever asks is sent elsewhere from then on.

    Readiness answers 503, so that a balancer sends nothing more; each answer closes its
    connection, so that no client has a request on its way when the connection ends.
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
        await app(scope, receive, self._closing(send))

    def _closing(self, send: Send) -> Send:
        """Asked when the answer starts: a request may have come before the farewell."""

        async def sent(message: Message) -> None:
            if self._begun and message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], CLOSE]}
            await send(message)

        return sent
