"""A stand-in for a Docker engine, which accepts every request and runs nothing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

VERSION = {"Version": "0", "ApiVersion": "1.44", "MinAPIVersion": "1.24"}
CONTAINER = {"Id": "c1", "Name": "/c1", "Config": {}, "State": {"Status": "running"}}


@dataclass
class Engine:
    """What was asked of it: the bodies of `create`, and the containers that were removed."""

    refuses_to_start: bool = False
    url: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, engine: Engine, *arguments: Any) -> None:
        self._engine = engine
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._answer(200, VERSION if self.path.endswith("/version") else CONTAINER)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if "/containers/create" in self.path:
            self._engine.created.append(json.loads(body))
            self._answer(201, {"Id": "c1", "Warnings": []})
        elif self._engine.refuses_to_start:
            self._answer(500, {"message": "port is already allocated"})
        else:
            self._answer(204)

    def do_DELETE(self) -> None:
        self._engine.removed.append(self.path.split("?")[0].rpartition("/")[2])
        self._answer(204)

    def log_message(self, *arguments: object) -> None:
        """Write nothing to the terminal."""

    def _answer(self, status: int, document: object = None) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def engine() -> Iterator[Engine]:
    """Listen on the loopback interface for the length of the block."""
    standing = Engine()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, standing)) as server:
        standing.url = f"tcp://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield standing
        finally:
            server.shutdown()
            thread.join()
