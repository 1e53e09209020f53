"""StrictBody: no body reaches a route before it has passed the strict JSON of every door."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outbox.errors import MessageRejected, rejected
from schemas import strict_json
from services.problem import problem

WITHOUT_BODY = {"GET", "HEAD", "DELETE", "OPTIONS"}  # what comes with them means nothing
TIMEOUT_SECONDS = 10.0


class StrictBody:
    """ASGI middleware: reads the whole body, at most `max_bytes` of it, and checks it.

    It must be there within `timeout_seconds`. A refused body is answered here, no route runs, and
    the connection ends, since the rest of the body may still be on its way. Compressed bodies are
    refused: what they hold has no limit. A client that leaves in the middle has asked for nothing,
    also where what came is JSON by itself.
    """

    def __init__(
        self,
        app: ASGIApp,
        timeout_seconds: float = TIMEOUT_SECONDS,
        max_bytes: int = strict_json.DEFAULT_LIMITS.size_bytes,
    ) -> None:
        self._app = app
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
            if body and scope["method"] not in WITHOUT_BODY:
                strict_json.load(body)
        except MessageRejected as error:
            await _refusal(error, scope)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise rejected("encoding", "content-encoding", "must be identity")
        if int(headers.get(b"content-length", b"0")) > self._max_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._all(receive)
        except TimeoutError:
            rule = f"must be there within {self._timeout_seconds:g} seconds"
            raise rejected("too-slow", "body", rule) from None

    async def _all(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._max_bytes:
                raise self._too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _too_large(self) -> MessageRejected:
        return rejected("too-large", "body", f"at most {self._max_bytes} bytes")


def _refusal(error: MessageRejected, scope: Scope) -> Response:
    response = problem(error.reason, error.violations, instance=scope["path"])
    response.headers["connection"] = "close"
    return response


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read, once; then whatever the server says next (a disconnect)."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
