"""The HTTP application: the services' routes, behind strict bodies and problem documents."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

import psycopg
from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import JSONResponse
from sqlalchemy import text

from outbox.errors import OutboxError
from outbox.postgres.migrate import require_current
from outbox.write.unit_of_work import driver_connection
from services import openapi, problem
from services.catalog.routes import Api, routes
from services.methods import Methods
from services.migrations import all_migrations
from web.strict_body import TIMEOUT_SECONDS, StrictBody
from web.traced import Traced

NOT_READY: openapi.Responses = {
    503: {"model": dict[str, str], "description": "What is `down`, or that the process is ending."}
}

Check = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Mounted:
    """A service in the application: its routes, and the object that they need."""

    name: str
    routes: APIRouter
    api: object


def create_app(
    services: Iterable[Mounted],
    checks: Mapping[str, Check],
    body_timeout_seconds: float = TIMEOUT_SECONDS,
) -> FastAPI:
    """The application; `checks` has the question that readiness asks of each dependency, by name.

    A check has passed unless it returns False or raises OutboxError, OSError or ValueError.
    """
    app = FastAPI(
        title="Aftercommit",
        summary="Commands in, one transaction, committed events out.",
        description=openapi.ABOUT,
        version="0.1.0",
        redirect_slashes=False,  # a redirect would replace the problem document of a wrong path
    )
    # Of several middlewares, the one that is added last sees a request first.
    app.add_middleware(StrictBody, timeout_seconds=body_timeout_seconds)
    app.add_middleware(Methods)
    app.add_middleware(Traced)
    problem.install(app)
    for service in services:
        setattr(app.state, service.name, service.api)
        app.include_router(service.routes, dependencies=[Depends(openapi.accept_traceparent)])
    app.include_router(_build_health_routes(checks))
    openapi.describe(app)
    return app


def application(api: Api, body_timeout_seconds: float = TIMEOUT_SECONDS) -> FastAPI:
    """The HTTP application with all services; a body must arrive within `body_timeout_seconds`."""

    async def require_migrated() -> None:
        async with api.database.ready() as connection:
            await connection.execute(text("SELECT 1"))
            driver: psycopg.AsyncConnection = await driver_connection(connection)
            await require_current(driver, all_migrations())

    checks = {"postgres": require_migrated, "qdrant": api.search.available}
    return create_app([Mounted("catalog", routes, api)], checks, body_timeout_seconds)


def _build_health_routes(checks: Mapping[str, Check]) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", responses=openapi.declare_answers())
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.get(
        "/readyz", response_model=dict[str, str], responses=NOT_READY | openapi.declare_answers()
    )
    async def ready() -> JSONResponse:
        """Each dependency answers; 503 names those that do not."""
        states = {name: await _describe_state(check) for name, check in checks.items()}
        good = all(state == "ready" for state in states.values())
        return JSONResponse(states, 200 if good else 503)

    return routes


async def _describe_state(check: Check) -> str:
    try:
        return "ready" if await check() is not False else "down"
    except (OutboxError, OSError, ValueError):  # ValueError: an applied migration has changed
        return "down"
