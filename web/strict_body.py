"""StrictBody: no body reaches a route unless it is strict JSON; see schemas/strict_json.py."""

import asyncio
import re
from email.message import Message as EmailMessage

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outbox.errors import MessageRejected, build_rejection
from schemas import strict_json
from services.methods import is_routed
from services.problem import problem

WITHOUT_BODY = {"GET", "HEAD", "DELETE", "OPTIONS"}  # a body that comes with them is ignored
TIMEOUT_SECONDS = 10.0
JSON = "application/json"
_JSON_TYPE = re.compile(r"application/(json|[!#$%&'*+.^_`|~0-9a-z-]+\+json)")
UTF8 = {"utf-8", "utf8"}


class StrictBody:
    """ASGI middleware: reads the whole body, at most `max_bytes` of it, and checks it.

    The body must arrive within `timeout_seconds`, and its content type must be JSON in UTF-8. A
    refused body is answered here: no route runs, and the connection ends, since the rest of the
    body may still be on its way. Compressed bodies are refused, because nothing limits what they
    expand to. A client that leaves before its body is complete has asked for nothing, even if what
    arrived is valid JSON.

    Where no route takes the method at this path, the content of the body does not matter, and the
    router answers (404, 405).
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
            if body and scope["method"] not in WITHOUT_BODY and is_routed(scope, scope["method"]):
                _check_type(scope)
                strict_json.load(body)
        except MessageRejected as error:
            await _build_refusal(error, scope)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        if any(coding.lower() != "identity" for coding in _list_values(scope, b"content-encoding")):
            raise build_rejection("encoding", "content-encoding", "must be identity")
        if _read_content_length(scope) > self._max_bytes:
            raise self._build_too_large()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._read_all(receive)
        except TimeoutError:
            rule = f"must be there within {self._timeout_seconds:g} seconds"
            raise build_rejection("too-slow", "body", rule) from None

    async def _read_all(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._max_bytes:
                raise self._build_too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _build_too_large(self) -> MessageRejected:
        return build_rejection("too-large", "body", f"at most {self._max_bytes} bytes")


def _check_type(scope: Scope) -> None:
    """Raise MessageRejected unless the one Content-Type is JSON, with no charset but UTF-8."""
    values = _list_values(scope, b"content-type")
    header = EmailMessage()  # FastAPI parses it in the same way
    header["content-type"] = values[0] if len(values) == 1 else ""
    if len(values) != 1 or not _JSON_TYPE.fullmatch(header.get_content_type()):
        raise build_rejection("media-type", "content-type", f"must be {JSON}")
    for name, value in header.get_params(failobj=[])[1:]:
        if name.lower().startswith("charset") and str(value).lower() not in UTF8:
            raise build_rejection(
                "media-type", "content-type", "must have no charset other than utf-8"
            )


def _list_values(scope: Scope, name: bytes) -> list[str]:
    """The values of a header, one for each time that it was sent."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _read_content_length(scope: Scope) -> int:
    """The Content-Length, 0 if there is none; the server has refused one that is no number."""
    lengths = [value[:20] for value in _list_values(scope, b"content-length") if value.isdecimal()]
    return max(map(int, lengths), default=0)


def _build_refusal(error: MessageRejected, scope: Scope) -> Response:
    response = problem(error.reason, error.violations, instance=scope["path"])
    response.headers["connection"] = "close"
    response.headers.update(_list_accepted(error.reason, scope["method"]))
    return response


def _list_accepted(reason: str, method: str) -> dict[str, str]:
    """The headers by which a 415 says what would be accepted (RFC 9110, 15.5.16)."""
    if reason == "encoding":
        return {"Accept-Encoding": "identity"}
    if reason != "media-type":
        return {}
    by_method = {"POST": {"Accept-Post": JSON}, "PATCH": {"Accept-Patch": JSON}}
    return {"Accept": JSON, **by_method.get(method, {})}


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read, once; then what the server sends next, such as a disconnect."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
