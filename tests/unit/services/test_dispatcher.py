"""Dispatcher: the same command is the same, with the same receipt, over HTTP and over Kafka.

The real routes, parsers and dispatcher; a stand-in for the database notes what would be recorded.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.commands import dispatch_envelope
from outbox.write.unit_of_work import _receipt_digest
from schemas.catalog import CatalogCommandRejected, CatalogCommandSucceeded, UpsertItems
from schemas.envelope import Envelope, Message
from schemas.limits import DOCUMENT_BYTES
from schemas.registry import REGISTRY
from schemas.wire import decode, encode
from services.catalog.handlers import HANDLERS
from services.catalog.routes import Api, routes
from services.dispatcher import Dispatcher
from web.app import Mounted, create_app

pytestmark = pytest.mark.anyio

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
NAMES = st.from_regex("[a-z][a-z0-9_]{0,9}", fullmatch=True)
IDS = st.from_regex("[A-Za-z0-9][A-Za-z0-9._:-]{0,9}", fullmatch=True)
VALUES = (
    TEXTS
    | st.just("")
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**53), 2**53)
    | st.sampled_from([10**16, 10**22, -(10**20)])
)
ITEMS = st.fixed_dictionaries(
    {"item_id": IDS, "name": TEXTS.map(lambda text: text[:200]), "text": TEXTS},
    optional={"attributes": st.dictionaries(NAMES, VALUES, max_size=5)},
)
BODIES = st.fixed_dictionaries(
    {"items": st.lists(ITEMS, min_size=1, max_size=4)},
    optional={"require_search": st.booleans()},
)


class StandInDatabase:
    """Notes the cause of each refusal that would be recorded; nothing is stored."""

    def __init__(self) -> None:
        self.refused: list[Envelope] = []

    async def retry_on_contention(self, work: Callable[[], Awaitable[Any]]) -> Any:
        return await work()

    @asynccontextmanager
    async def unit_of_work(self, name: str, cause: Envelope, *, once: bool) -> Any:
        assert (name, once) == ("reject_command", True)
        self.refused.append(cause)
        yield self

    async def commit(self, reply: CatalogCommandRejected) -> None:
        assert reply.command_id == self.refused[-1].id


class Service:
    """The catalog's HTTP door and its dispatcher, whose handlers only note what they are given."""

    def __init__(self) -> None:
        self.database = StandInDatabase()
        self.handled: list[tuple[Message, Envelope]] = []
        self.dispatcher = Dispatcher(
            cast(Any, self.database), None, dict.fromkeys(HANDLERS, self._handle),
            rejection=CatalogCommandRejected,
        )  # fmt: skip
        api = Api(self.dispatcher, cast(Any, None))
        self._app = create_app([Mounted("catalog", routes, api)], {})

    async def _handle(
        self, context: Any, command: Message, cause: Envelope
    ) -> CatalogCommandSucceeded:
        assert context is None
        self.handled.append((command, cause))
        return CatalogCommandSucceeded(
            command_id=cause.id, command_type=cause.type, subject=cause.key
        )

    async def put(self, body: bytes) -> httpx.Response:
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.put("/catalogs/c/items", content=body, headers=headers)


SERVICE = Service()


async def deliver_over_both(service: Service, body: bytes) -> None:
    service.handled.clear()
    response = await service.put(body)
    assert response.status_code == 200, response.text
    [(over_http, cause)] = service.handled
    spaced = json.dumps(json.loads(cause.payload or b""), indent=2).encode()
    for payload in (cause.payload, spaced):
        record = encode(Envelope(cause.id, "/kafka", cause.type, cause.key, payload))
        await dispatch_envelope(service.dispatcher, decode(*record))
        over_kafka, again = service.handled[-1]
        assert over_kafka == over_http
        assert (again.id, again.type, again.key) == (cause.id, cause.type, cause.key)
        assert again.payload == cause.payload
        assert _receipt_digest(again) == _receipt_digest(cause)
    assert len(service.handled) == 3


@settings(max_examples=100)
@given(BODIES)
def test_a_command_has_the_same_receipt_over_http_and_over_kafka(body: dict[str, Any]) -> None:
    """What HTTP has validated, the registry parses to an equal command with an equal payload."""
    asyncio.run(deliver_over_both(SERVICE, json.dumps(body).encode()))


async def test_a_body_within_the_limit_whose_command_is_larger_is_refused_and_recorded() -> None:
    """The catalog's id and the items' defaults count, as they do for a command over Kafka."""
    items = [{"item_id": f"i{number}", "name": "n", "text": "t"} for number in range(500)]
    room = DOCUMENT_BYTES - len(json.dumps({"items": items}))
    for item in items:
        more = min(room, 20_000 - 1)
        item["text"] += "t" * more
        room -= more
    body = json.dumps({"items": items}).encode()
    assert len(body) == DOCUMENT_BYTES
    service = Service()
    response = await service.put(body)
    assert (response.status_code, service.handled) == (413, [])
    assert response.json()["errors"] == [{"field": "body", "rule": "at most 1048576 bytes"}]
    [refused] = service.database.refused
    assert len(refused.payload or b"") > DOCUMENT_BYTES


async def test_a_payload_from_kafka_that_cannot_be_parsed_is_answered_by_a_rejection() -> None:
    service = Service()
    envelope = Envelope("1", "/test", UpsertItems.type, "c", b'{"catalog_id": "c"}')
    reply = await dispatch_envelope(service.dispatcher, envelope)
    assert (reply["type"], reply["reason"]) == (CatalogCommandRejected.type, "schema")
    assert service.database.refused == [envelope]


def test_every_command_with_a_handler_is_known_to_the_registry() -> None:
    assert set(HANDLERS) <= set(REGISTRY)
