"""Methods: HEAD wherever GET is, OPTIONS for every path, and the `Allow` that a 405 must have.

These are the rules of RFC 9110, sections 9.3.2, 9.3.7 and 15.5.6. Each route of the application is
asked, so a path with several routes allows what all of them allow together.
"""

from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROUTED = ("GET", "POST", "PUT", "PATCH", "DELETE")
SERVER = "*"  # OPTIONS * asks about the server as a whole


class Methods:
    """ASGI middleware: answers HEAD as GET without its body, and OPTIONS without any route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, _without_body(send))
        elif scope["method"] == "OPTIONS" and (allow := find_allowed(scope)):
            await Response(status_code=204, headers={"Allow": allow})(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def find_allowed(scope: Scope) -> str:
    """The value of `Allow` for the path of this request; empty where no route knows the path."""
    if scope["path"] == SERVER:
        return _join(list(ROUTED))
    return _join([method for method in ROUTED if is_routed(scope, method)])


def is_routed(scope: Scope, method: str) -> bool:
    """Whether a route takes this method at the path of this request."""
    asked = {name: scope[name] for name in ("type", "path", "root_path") if name in scope}
    asked |= {"method": method, "headers": []}
    return any(route.matches(dict(asked))[0] == Match.FULL for route in scope["app"].routes)


def _join(methods: list[str]) -> str:
    if not methods:
        return ""
    head = ["HEAD"] if "GET" in methods else []
    return ", ".join(sorted([*methods, *head, "OPTIONS"]))


def _without_body(send: Send) -> Send:
    """Send the same status and headers, Content-Length included, and an empty body."""

    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_headers
