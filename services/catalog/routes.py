"""The catalog over HTTP: writes become commands for the handlers that Kafka reaches too; reads."""

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Le
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import WithJsonSchema

from outbox.errors import build_rejection
from outbox.streams.difference import compare
from outbox.streams.heads import read_heads
from outbox.write.database import Database
from outbox.write.unit_of_work import driver_connection
from schemas.catalog import CreateCatalog, Id, RemoveItem, UpsertItems
from schemas.envelope import Command
from services.catalog import store
from services.catalog.handlers import list_touched
from services.catalog.own_rows import KEEP_DAYS, compare_catalog
from services.catalog.search import Search
from services.catalog.views import (
    SHOWN_KEYS,
    CatalogView,
    CommandAnswer,
    Consistency,
    HitView,
    Items,
    ItemView,
    NewCatalog,
)
from services.catalog.where import NAME, parse_where
from services.dispatcher import Dispatcher
from services.http_commands import dispatch_over_http
from services.openapi import WITH_BODY, OptionalKey, RequiredKey, Responses, declare_answers
from services.parameters import DIGITS
from services.prefer_wait import (
    PREFERENCE_APPLIED,
    AwaitedStores,
    PendingAnswer,
    accept_prefer,
    answer_command,
)
from services.problem import from_reply

View = TypeVar("View")

CatalogId = Annotated[Id, Path(examples=["airports"])]
ItemId = Annotated[Id, Path(examples=["JFK"])]
Limit = Annotated[int, Ge(1), Le(500), DIGITS, Query()]
After = Annotated[
    str,
    Query(
        max_length=100,
        pattern=r"^[A-Za-z0-9._:-]*$",
        description="The last id of the page before.",
    ),
]
FILTER = {"type": "string", "pattern": rf"^{NAME}:", "maxLength": 551}
Filter = Annotated[
    # The pattern is only declared here: `parse_where` checks it, and names the rule in words.
    list[Annotated[str, WithJsonSchema(FILTER)]] | None,
    Query(
        max_length=10,
        description="`attribute:text`, for example `state:NY`, `price:1` or `lit:true`; all must"
        " hold, each attribute once.",
    ),
]


@dataclass(frozen=True)
class Api:
    """What the routes need; the application keeps it as `state.catalog`.

    `stores` are those that a write can be asked to wait for.
    """

    dispatcher: Dispatcher
    search: Search
    stores: AwaitedStores | None = None

    @property
    def database(self) -> Database:
        return self.dispatcher.database


def api_of(request: Request) -> Api:
    api = request.app.state.catalog
    assert isinstance(api, Api)  # noqa: S101 - set where the application is made
    return api


LOCATION = {"description": "The catalog.", "required": True, "schema": {"type": "string"}}
READ = ("schema", "not-found", "unavailable")


def declare_write(*reasons: str, status: int = 200, **headers: Any) -> dict[str, Any]:
    """The options of a write's route, which may be refused for these and every write's reasons."""
    refusals = declare_answers("schema", "id-reused", "unavailable", *reasons)
    done: Responses = {
        status: {"headers": PREFERENCE_APPLIED | headers},
        202: {
            "model": PendingAnswer,
            "description": "Committed, and not yet shown by every store that was waited for.",
            "headers": PREFERENCE_APPLIED,
        },
    }
    return {
        "status_code": status,
        "response_model": CommandAnswer,
        "responses": done | refusals,
        "dependencies": [Depends(accept_prefer)],
    }


CatalogApi = Annotated[Api, Depends(api_of)]
routes = APIRouter(tags=["catalog"])


@routes.post(
    "/catalogs",
    **declare_write(
        *WITH_BODY, "idempotency-key-missing", "conflict", status=201, Location=LOCATION
    ),
)
async def create_catalog(
    request: Request, body: NewCatalog, idempotency_key: RequiredKey
) -> Response:
    """Create a catalog. Needs an Idempotency-Key."""
    command = CreateCatalog(catalog_id=body.catalog_id, name=body.name)
    response = await _answer(request, command, idempotency_key, 201)
    if response.status_code == 201:
        response.headers["Location"] = f"/catalogs/{body.catalog_id}"
    return response


@routes.put(
    "/catalogs/{catalog_id}/items", **declare_write(*WITH_BODY, "not-found", "search-unavailable")
)
async def upsert_items(
    request: Request, catalog_id: CatalogId, body: Items, idempotency_key: OptionalKey = None
) -> Response:
    """Put whole items into a catalog, all or none."""
    command = UpsertItems(
        catalog_id=catalog_id, items=tuple(body.items), require_search=body.require_search
    )
    return await _answer(request, command, idempotency_key, 200)


@routes.delete("/catalogs/{catalog_id}/items/{item_id}", **declare_write("not-found"))
async def remove_item(
    request: Request, catalog_id: CatalogId, item_id: ItemId, idempotency_key: OptionalKey = None
) -> Response:
    """Remove an item."""
    command = RemoveItem(catalog_id=catalog_id, item_id=item_id)
    return await _answer(request, command, idempotency_key, 200)


@routes.get("/catalogs/{catalog_id}", responses=declare_answers(*READ))
async def read_catalog(api: CatalogApi, catalog_id: CatalogId) -> CatalogView:
    async with api.database.read() as connection:
        catalog = await store.require_catalog(connection, catalog_id)
        items = await store.count_items(connection, catalog_id)
    return _require_view("catalog_id", CatalogView.of(catalog, items))


@routes.get("/catalogs/{catalog_id}/items", responses=declare_answers(*READ))
async def list_items(
    api: CatalogApi, catalog_id: CatalogId, after: After = "", limit: Limit = 100
) -> list[ItemView]:
    """Items by id, a page at a time; fewer than `limit` are the last ones.

    A row that a hand has altered to what no command could put there is left out.
    """
    shown: list[ItemView] = []
    async with api.database.read() as connection:
        while left := limit - len(shown):
            found = await store.list_items(connection, catalog_id, after, left)
            shown += filter(None, map(ItemView.of, found))
            if len(found) < left:
                break
            after = found[-1].item.item_id
        if not shown:
            await store.require_catalog(connection, catalog_id)
    return shown


@routes.get("/catalogs/{catalog_id}/items/{item_id}", responses=declare_answers(*READ))
async def read_item(api: CatalogApi, catalog_id: CatalogId, item_id: ItemId) -> ItemView:
    async with api.database.read() as connection:
        found = await store.find_item(connection, catalog_id, item_id)
    if found is None:
        raise build_rejection("not-found", "item_id", "must name an item of the catalog")
    return _require_view("item_id", ItemView.of(found))


@routes.get("/catalogs/{catalog_id}/search", responses=declare_answers(*READ))
async def search_items(
    api: CatalogApi,
    catalog_id: CatalogId,
    q: Annotated[str, Query(min_length=1, max_length=1_000)],
    limit: Annotated[int, Ge(1), Le(100), DIGITS, Query()] = 10,
    offset: Annotated[int, Ge(0), Le(10_000), DIGITS, Query()] = 0,
    where: Filter = None,
) -> list[HitView]:
    """The items nearest to a question, best first; removed ones never appear."""
    hits = await api.search.query(catalog_id, q, parse_where(where or []), limit, offset)
    if not hits:  # what was found is in a catalog: PostgreSQL is asked only where nothing was
        async with api.database.read() as connection:
            await store.require_catalog(connection, catalog_id)
    return [HitView.model_validate(hit, from_attributes=True) for hit in hits]


@routes.get("/catalogs/{catalog_id}/consistency", responses=declare_answers(*READ))
async def consistency(api: CatalogApi, catalog_id: CatalogId) -> Consistency:
    """Compare the catalog's stream heads with its rows and with the search store.

    The rows are compared with what the latest event of each key says, and the points with the
    heads' versions and digests; what another program has put into the store is named by its id.
    A catalog whose own row is gone is compared, too: unknown is what has neither rows nor heads.
    """
    shown, foreign = await api.search.entries(catalog_id)
    async with api.database.read() as connection:
        driver = await driver_connection(connection)
        await driver.execute(KEEP_DAYS)
        heads = await read_heads(driver, ["catalog.item"], prefix=catalog_id)
        items = await store.count_items(connection, catalog_id)
        rows = await compare_catalog(driver, catalog_id, SHOWN_KEYS)
    if not (rows.rows or rows.heads):
        raise store.build_no_catalog()
    difference = compare(heads, shown)
    difference.foreign.extend(each.place for each in foreign)
    return Consistency.of(items, shown, difference, rows)


async def _answer(request: Request, command: Command, key: str | None, status: int) -> Response:
    api = api_of(request)
    reply = await dispatch_over_http(api.dispatcher, command, key)
    if "reason" in reply:
        return from_reply(reply, request.url.path)
    document = CommandAnswer(command_id=reply["command_id"], result=reply["result"]).model_dump()
    return await answer_command(request, document, status, api.stores, list_touched(command))


def _require_view(field: str, view: View | None) -> View:
    """The view; MessageRejected where it is None, because the row was altered by hand."""
    if view is None:
        raise build_rejection(
            "not-found", field, "its row was altered by hand: `consistency` names it"
        )
    return view
