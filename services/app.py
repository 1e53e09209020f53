"""The HTTP application: the services' routes behind strict bodies and problem documents."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from outbox.errors import OutboxError
from services import problem
from services.body import TIMEOUT_SECONDS, StrictBody

Check = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Mounted:
    """A service in the application: its routes, and what they stand on."""

    name: str
    routes: APIRouter
    api: object


def create_app(
    services: Iterable[Mounted],
    checks: Mapping[str, Check],
    body_timeout_seconds: float = TIMEOUT_SECONDS,
) -> FastAPI:
    """The application; `checks` are what readiness asks of each dependency, by name."""
    app = FastAPI(
        title="Aftercommit",
        summary="Commands in, one transaction, committed events out.",
        version="0.1.0",
    )
    app.add_middleware(StrictBody, timeout_seconds=body_timeout_seconds)
    problem.install(app)
    for service in services:
        setattr(app.state, service.name, service.api)
        app.include_router(service.routes)
    app.include_router(_health(checks))
    return app


def _health(checks: Mapping[str, Check]) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/livez")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.get("/readyz")
    async def ready() -> JSONResponse:
        """Each dependency answers; 503 names those that do not."""
        states = {name: await _state(check) for name, check in checks.items()}
        good = all(state == "ready" for state in states.values())
        return JSONResponse(states, 200 if good else 503)

    return routes


async def _state(check: Check) -> str:
    try:
        return "ready" if await check() is not False else "down"
    except (OutboxError, OSError, ValueError):  # ValueError: an applied migration has changed
        return "down"
