"""QdrantServer: a stand-in for Qdrant's REST interface over an engine, which a test can script.

It has the routes that the projection needs and no others. A batch is carried out operation by
operation; one that is refused leaves those before it done, as on the server (qdrant #9364).
`python -m tests.kit.qdrant.server FOLDER PORT` serves Qdrant's own engine until it is
killed, or until its standard input ends because the process that started it is gone.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import orjson

from tests.kit.qdrant.engine import (
    EdgeEngine,
    Engine,
    Json,
    Record,
    WrongInputError,
    matches,
)
from tests.kit.qdrant.twists import Answer, Twist, described, refusal, result, unfinished

LOOPBACK = "127.0.0.1"
COMPLETED = "completed"
ALIASES = ("/aliases", "/collections/aliases")


class Request(NamedTuple):
    """A request as it came in; `body` is empty where there was none."""

    method: str
    path: str
    body: bytes
    query: str = ""

    @property
    def waits(self) -> bool:
        return "wait=true" in self.query.split("&")

    @property
    def json(self) -> Json:
        """The body as JSON; WrongInputError where it is not strictly JSON."""
        try:
            body: Json = orjson.loads(self.body)
        except ValueError as error:
            raise WrongInputError(f"Format error in JSON body: {error}") from error
        return body


@dataclass
class QdrantServer:
    """Serves an engine on a port of its own; `requests` are all that came in."""

    engine: Engine
    version: str = "1.19.1"
    most_bytes: int = 32 * 1024 * 1024
    refuses: Callable[[Json], bool] = lambda point: False  # noqa: ARG005 - none
    requests: list[Request] = field(default_factory=list)
    twists: list[Twist] = field(default_factory=list)
    later: list[tuple[str, list[Json]]] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Json] = field(default_factory=dict)  # of the collections made here
    port: int = 0

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def twist(self, twist: Twist) -> Twist:
        """Answer the next requests to its path with it, after the twists that were added before."""
        self.twists.append(twist)
        return twist

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path.endswith(path)]

    async def answer(self, request: Request) -> Answer | None:
        """Return the answer to this request; None for silence."""
        self.requests.append(request)
        twist = self._next_twist(request)
        try:
            if twist is None:
                return await self._usual(request)
            if request.path.endswith("/points/batch"):
                await self._batch(_collection(request), request.json["operations"][: twist.done])
            return twist.answer
        except WrongInputError as wrong:
            return refusal(wrong.status, str(wrong))

    def _next_twist(self, request: Request) -> Twist | None:
        for twist in self.twists:
            if request.path.endswith(twist.path):
                twist.times -= 1
                if twist.times == 0:
                    self.twists.remove(twist)
                twist.happened.set()
                return twist
        return None

    async def _usual(self, request: Request) -> Answer:
        if request.path == "/":
            return Answer(200, orjson.dumps({"title": "qdrant", "version": self.version}))
        if len(request.body) > self.most_bytes:
            raise WrongInputError(
                f"JSON payload ({len(request.body)} bytes) is larger than allowed", 413
            )
        if request.path in ALIASES:
            return self._of_aliases(request)
        if request.path == "/collections":
            return result({"collections": [{"name": name} for name in self.metadata]})
        collection, _, rest = request.path.removeprefix("/collections/").partition("/")
        collection = self.aliases.get(collection, collection)
        if rest == "exists":
            return result({"exists": await self.engine.size(collection) is not None})
        if request.method == "PUT" and not rest:
            return await self._create(collection, request.json)
        size = await self.engine.size(collection)
        if size is None:
            raise WrongInputError(f"Not found: Collection `{collection}` doesn't exist!", 404)
        return await self._of_collection(request, collection, rest, size)

    async def _create(self, collection: str, body: Json) -> Answer:
        if await self.engine.size(collection) is not None:
            raise WrongInputError(f"Wrong input: Collection `{collection}` already exists!", 409)
        await self.engine.create(collection, body["vectors"]["size"])
        self.metadata[collection] = body.get("metadata") or {}
        return result(True)

    def _of_aliases(self, request: Request) -> Answer:
        """List or change aliases; all actions are done or none, as on the server."""
        if request.method == "GET":
            shown = [{"alias_name": a, "collection_name": c} for a, c in self.aliases.items()]
            return result({"aliases": shown})
        aliases = dict(self.aliases)
        for action in request.json["actions"]:
            if "delete_alias" in action:
                aliases.pop(action["delete_alias"]["alias_name"], None)
            else:
                made = action["create_alias"]
                aliases[made["alias_name"]] = made["collection_name"]
        self.aliases = aliases
        return result(True)

    async def _of_collection(
        self, request: Request, collection: str, rest: str, size: int
    ) -> Answer:
        if request.method == "DELETE":
            await self.engine.drop(collection)
            self.metadata.pop(collection, None)
            return result(True)
        if not rest:
            return result(described(size, self.metadata.get(collection)))
        if rest == "index":
            return result({"operation_id": 0, "status": COMPLETED})
        if rest == "points/batch":
            return await self._write(collection, request)
        if rest == "points/delete":
            await self.engine.delete(collection, request.json["filter"])
            return result({"operation_id": 0, "status": COMPLETED})
        return await self._question(collection, rest, request.json)

    async def _question(self, collection: str, rest: str, body: Json) -> Answer:
        await self._do_unwaited_batches()
        if rest == "points":
            wanted = body.get("with_payload")
            found = await self.engine.retrieve(
                collection,
                body["ids"],
                wanted if isinstance(wanted, list) else None,
                vectors=bool(body.get("with_vector")),
            )
            return result([_render_record(record, body) for record in found])
        if rest == "points/scroll":
            found, after = await self.engine.scroll(collection, body["limit"], body.get("offset"))
            points = [_render_record(record, body) for record in found]
            return result({"points": points, "next_page_offset": after})
        if rest == "points/count":
            return result({"count": await self._count(collection, body.get("filter"))})
        raise WrongInputError(f"this stand-in does not serve {rest}")

    async def _write(self, collection: str, request: Request) -> Answer:
        """Do the batch; one without wait=true is only done before the next read, if not lost."""
        operations = request.json["operations"]
        if request.waits:
            return await self._batch(collection, operations)
        self.later.append((collection, operations))
        return unfinished("acknowledged", len(operations))

    async def _do_unwaited_batches(self) -> None:
        while self.later:
            await self._batch(*self.later.pop(0))

    def lose_unwaited_batches(self) -> None:
        """Forget the batches without wait=true that were not done yet, as kill -9 may."""
        self.later.clear()

    async def _batch(self, collection: str, operations: Sequence[Json]) -> Answer:
        for operation in operations:
            upsert = operation["upsert"]
            if any(self.refuses(point) for point in upsert["points"]):
                raise WrongInputError("Wrong input: not such a point")
            _require_numbers(upsert["points"])
            await self.engine.upsert(collection, upsert["points"], upsert.get("update_filter"))
        return result([{"operation_id": n, "status": COMPLETED} for n in range(len(operations))])

    async def _count(self, collection: str, condition: Json | None) -> int:
        found, after = await self.engine.scroll(collection, 100_000, None)
        assert after is None
        return sum(matches(condition or {}, record) for record in found)


@asynccontextmanager
async def serving(server: QdrantServer) -> AsyncIterator[QdrantServer]:
    """Serve on loopback for the length of the block, and close the engine at its end."""
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(server, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(accept, LOOPBACK, server.port)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.engine.close()


async def _serve(
    server: QdrantServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one connection, request after request, until either side ends it."""
    try:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                answer = await server.answer(await _read(reader))
                if answer is None:
                    await reader.read()  # until the caller gives up
                    break
                writer.write(_render_answer(answer))
                await writer.drain()
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    path, _, query = target.partition("?")
    return Request(method, path, body, query)


def _render_answer(answer: Answer) -> bytes:
    headers = [*answer.headers, ("content-length", str(len(answer.body)))]
    lines = [f"HTTP/1.1 {answer.status} Scripted", *(f"{k}: {v}" for k, v in headers), "", ""]
    return "\r\n".join(lines).encode() + answer.body


def _collection(request: Request) -> str:
    return request.path.split("/")[2]


def _require_numbers(points: Sequence[Json]) -> None:
    """A NaN travels as null, which the server cannot read as a vector's number."""
    if any(None in point["vector"] for point in points):
        raise WrongInputError("Format error in JSON body: invalid type: null, expected f32")


def _render_record(record: Record, body: Json) -> Json:
    point, payload, vector = record
    wanted = body.get("with_payload")
    chosen = {k: v for k, v in payload.items() if wanted is True or k in (wanted or ())}
    return {"id": point, "payload": chosen, "vector": vector if body.get("with_vector") else None}


async def _main(engine: Engine, port: int) -> None:
    async with serving(QdrantServer(engine, port=port)):
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(EdgeEngine(Path(sys.argv[1])), int(sys.argv[2])))
