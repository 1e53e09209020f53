"""FB2: a row that was changed without an event, or an event without a row, is found and named."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

from consumers.commands import dispatch_envelope
from consumers.settings import Settings
from outbox.streams.difference import DifferenceKind
from outbox.write.database import Database
from schemas.catalog import CreateCatalog, Item, RemoveItem, UpsertItems
from schemas.envelope import Command, Envelope
from services.assembly import catalog, qdrant
from services.catalog import own_rows
from services.catalog.embedder import WordLlamaEmbedder
from services.catalog.own_rows import KEEP_DAYS, CatalogRows, compare_catalog
from services.catalog.routes import Api
from tests.kit.projections.catalogued import KEEP

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]

# Numbers and names that a careless comparison would take for equal, or for different.
ATTRIBUTES: list[dict[str, Any]] = [
    {},
    {"yes": True, "no": False, "one": 1.0, "zero": 0.0, "minus": -0.0},
    {"large": 1e23, "small": 5e-324, "third": 1 / 3, "huge": 1.7976931348623157e308},
    {"text": 'a"b\\c\n\u2028漢\U0001f600', "empty": "", "number": "1", "word": "true"},
]


@pytest.fixture
async def api(postgres_url: str) -> AsyncIterator[Api]:
    settings = Settings(postgres_url=SecretStr(postgres_url), qdrant_url=":memory:")
    async with Database(settings, "catalog") as database:
        yield catalog(database, lambda: qdrant(settings), WordLlamaEmbedder())


async def send(api: Api, command: Command) -> None:
    envelope = Envelope(str(uuid4()), "/test", command.type, command.key(), command.payload())
    assert "reason" not in await dispatch_envelope(api.dispatcher, envelope)


async def put(api: Api, catalog_id: str, *items: str, **attributes: Any) -> None:
    made = [Item(item_id=i, name=i, text=f"of {i}", attributes=attributes) for i in items]
    for start in range(0, len(made), 500):
        some = tuple(made[start : start + 500])
        await send(api, UpsertItems(catalog_id=catalog_id, items=some))


@pytest.fixture
async def filled(api: Api) -> Api:
    """Two catalogs whose names sort otherwise than their keys, and a removed item."""
    for catalog_id in ("a", "a-b"):
        await send(api, CreateCatalog(catalog_id=catalog_id, name=catalog_id))
        for number, attributes in enumerate(ATTRIBUTES):
            await put(api, catalog_id, f"i{number}", **attributes)
    await put(api, "a", "gone")
    await send(api, RemoveItem(catalog_id="a", item_id="gone"))
    return api


async def found(postgres: Connection) -> dict[str, list[str]]:
    difference = await CatalogRows().compare(postgres, 100)
    named = {kind: [each.key for each in streams] for kind, streams in difference.found.items()}
    assert {kind: len(keys) for kind, keys in named.items()} == dict(difference.counts)
    return {str(kind): keys for kind, keys in named.items()}


async def test_rows_that_only_the_service_wrote_are_what_their_events_say(
    filled: Api, postgres: Connection
) -> None:
    """For all values, and also if retention has moved the message to where it keeps the latest."""
    difference = await CatalogRows().compare(postgres, 100)
    assert (difference.rows, difference.heads, difference.keys) == (10, 10, 0)
    await postgres.execute(KEEP.encode())
    await postgres.execute("DELETE FROM outbox.messages")
    assert await found(postgres) == {}
    assert filled


ALTERED: dict[str, tuple[str, dict[str, list[str]]]] = {
    "deleted": ("DELETE FROM catalog.items WHERE item_id = 'i2' AND catalog_id = 'a'",
                {"missing": ["a/i2"]}),
    "inserted": ("INSERT INTO catalog.items VALUES ('a', 'new', 'n', 't', '{}')",
                 {"orphaned": ["a/new"]}),
    "removed and back": ("INSERT INTO catalog.items VALUES ('a', 'gone', 'gone', 'of gone', '{}')",
                         {"orphaned": ["a/gone"]}),
    "renamed": ("UPDATE catalog.items SET name = 'x' WHERE item_id = 'i0'",
                {"different": ["a/i0", "a-b/i0"]}),
    "another text": ("UPDATE catalog.items SET text = text || ' ' WHERE item_id = 'i3'"
                     " AND catalog_id = 'a'", {"different": ["a/i3"]}),
    "true to 1": ("UPDATE catalog.items SET attributes = attributes || '{\"yes\": 1}'"
                  " WHERE item_id = 'i1' AND catalog_id = 'a'", {"different": ["a/i1"]}),
    "a neighbouring number": (
        "UPDATE catalog.items SET attributes = attributes || '{\"third\": 0.33333333333333337}'"
        " WHERE item_id = 'i2' AND catalog_id = 'a'", {"different": ["a/i2"]}),
    "a number to its text": (
        "UPDATE catalog.items SET attributes = attributes || '{\"one\": \"1\"}'"
        " WHERE item_id = 'i1' AND catalog_id = 'a-b'", {"different": ["a-b/i1"]}),
    "one attribute more": (
        "UPDATE catalog.items SET attributes = '{\"a\": \"b\"}'"
        " WHERE item_id = 'i0' AND catalog_id = 'a'", {"different": ["a/i0"]}),
    "moved": ("UPDATE catalog.items SET item_id = 'j0' WHERE item_id = 'i0' AND catalog_id = 'a'",
              {"orphaned": ["a/j0"], "missing": ["a/i0"]}),
    "a catalog renamed": ("UPDATE catalog.catalogs SET name = 'x' WHERE catalog_id = 'a'",
                          {"different": ["a"]}),
    "a catalog inserted": ("INSERT INTO catalog.catalogs VALUES ('b', 'b')",
                           {"orphaned": ["b"]}),
    "a catalog deleted": ("WITH items AS (DELETE FROM catalog.items WHERE catalog_id = 'a-b')"
                          " DELETE FROM catalog.catalogs WHERE catalog_id = 'a-b'",
                          {"missing": ["a-b", *(f"a-b/i{n}" for n in range(4))]}),
    "the message is nowhere": (
        "DELETE FROM outbox.messages WHERE aggregateid = 'a/i1'", {"different": ["a/i1"]}),
    "an event that no row can be": (
        "UPDATE outbox.messages SET payload = 'no json' WHERE aggregateid IN ('a/i1', 'a-b/i3')",
        {"different": ["a/i1", "a-b/i3"]}),
    "an event with a NUL": (
        "UPDATE outbox.messages SET payload = '{\"a\": \"\\u0000\"}' WHERE aggregateid = 'a/i1'",
        {"different": ["a/i1"]}),
}  # fmt: skip


@pytest.mark.parametrize("page_rows", [1, 3, own_rows.PAGE_ROWS])
@pytest.mark.parametrize("how", ALTERED)
async def test_what_was_changed_by_hand_is_named(
    filled: Api, postgres: Connection, monkeypatch: pytest.MonkeyPatch, how: str, page_rows: int
) -> None:
    """The result does not depend on the page size."""
    assert filled
    monkeypatch.setattr(own_rows, "PAGE_ROWS", page_rows)
    statement, expected = ALTERED[how]
    await postgres.execute(statement.encode())
    assert await found(postgres) == expected


async def test_a_catalog_is_compared_within_one_snapshot(
    filled: Api, postgres: Connection, postgres_url: str
) -> None:
    """Rows of other catalogs, and rows that commit meanwhile, do not count."""
    await postgres.execute("UPDATE catalog.items SET name = 'x' WHERE catalog_id = 'a-b'")
    async with await psycopg.AsyncConnection.connect(postgres_url) as reader:
        await reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await reader.execute(KEEP_DAYS)
        first = await compare_catalog(reader, "a", 100)
        await put(filled, "a", "i0", "i9", new=True)
        second = await compare_catalog(reader, "a", 100)
        other = await compare_catalog(reader, "a-b", 2)
    assert (first.rows, first.keys) == (second.rows, second.keys) == (5, 0)
    assert (other.rows, other.counts) == (5, {DifferenceKind.DIFFERENT: 4})
    assert [each.key for each in other.of(DifferenceKind.DIFFERENT)] == ["a-b/i0", "a-b/i1"]


async def test_writers_that_go_on_are_no_difference(filled: Api, postgres: Connection) -> None:
    """Items are added, changed, removed and added again while the pages are read."""
    await put(filled, "a", *(f"n{number:03}" for number in range(300)))
    ended = asyncio.Event()

    async def write() -> int:
        turns = 0
        while not ended.is_set():
            item = f"n{turns * 7 % 300:03}"
            await put(filled, "a", item, turn=float(turns))
            if turns % 3 == 0:
                await send(filled, RemoveItem(catalog_id="a", item_id=item))
                await put(filled, "a", item)
            turns += 1
        return turns

    writing = asyncio.create_task(write())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(own_rows, "PAGE_ROWS", 7)
        for _ in range(3):
            assert await found(postgres) == {}
    ended.set()
    assert await writing > 0
