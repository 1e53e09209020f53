"""Target: `GET http://host/path`, as a client asks a proxy, is `GET /path` (RFC 9112, 3.2.2)."""

import re
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_AUTHORITY = re.compile(rb"https?://[^/]*", re.IGNORECASE)


class Target:
    """ASGI middleware: the application inside sees a path that begins with `/` in both forms."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (found := _AUTHORITY.match(scope["raw_path"])):
            raw = scope["raw_path"][found.end() :] or b"/"
            scope = {**scope, "raw_path": raw, "path": unquote(raw.decode("ascii"))}
        await self._app(scope, receive, send)
