"""StrictBody: no body reaches a route before it has passed the strict JSON of every door."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outbox.errors import MessageRejected, rejected
from schemas import strict_json
from services.problem import problem


class StrictBody:
    """ASGI middleware: reads the whole body, at most `max_bytes` of it, and checks it.

    A refused body is answered here and no route runs. Compressed bodies are refused.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int = strict_json.DEFAULT_LIMITS.size_bytes
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "DELETE", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
            if body:
                strict_json.load(body)
        except MessageRejected as error:
            response = problem(error.reason, error.violations, instance=scope["path"])
            await response(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise rejected("schema", "content-encoding", "must be identity")
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._max_bytes:
                raise rejected("too-large", "body", f"at most {self._max_bytes} bytes")
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


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
