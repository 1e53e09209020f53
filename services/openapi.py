"""OpenAPI that says exactly what is answered: each status, its document, its headers.

A route names the reasons for which it may refuse: `responses=answers("not-found", "unavailable")`.
What every route may answer is added here, and `describe` adds to the bodies what the strict JSON of
every door refuses beside their schemas.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Annotated, Any

from fastapi import FastAPI, Header
from pydantic import BaseModel, Field

from schemas.reply import BrokenRule
from schemas.strict_json import DEFAULT_LIMITS
from services.problem import IDEMPOTENCY_KEY, MEDIA_TYPE, STATUS, TITLES, TYPE

Responses = dict[int | str, dict[str, Any]]

ABOUT = f"""Every path that is answered to GET is answered to HEAD, and every path to OPTIONS, whose
`Allow` names the methods. Another method is 405 with `Allow`, an unknown path 404, and a request
that is no HTTP/1.1 is 400; like every refusal these are problem documents (RFC 9457), whose
`trace_id` is the one of `traceparent` and stands in each line of the log about the request. What is
no HTTP has no path, and its document no `instance`.

Bodies are JSON in UTF-8 of at most {DEFAULT_LIMITS.size_bytes} bytes and
{DEFAULT_LIMITS.depth_levels} levels. A key may stand only once in an object; NaN, NUL and lone
surrogates are refused. A body where none is asked for is read and ignored."""

# Whatever a request asks for: its body is read, and the server may be wrong.
EVERYWHERE = ("too-slow", "too-large", "encoding", "unexpected")
WITH_BODY = ("json", "schema", "media-type")
NO_NUL = r"^[^\u0000]*$"

RETRY_AFTER = {
    "description": "After how many seconds to try again.",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
ACCEPTED = {"description": "What would have been accepted.", "schema": {"type": "string"}}
HEADERS: dict[int, dict[str, Any]] = {
    415: dict.fromkeys(("Accept", "Accept-Encoding", "Accept-Post", "Accept-Patch"), ACCEPTED),
    503: {"Retry-After": RETRY_AFTER},
}


class Problem(BaseModel):
    """Why a request was refused (RFC 9457). `type` is stable: a program can branch on it."""

    type: str = Field(pattern=f"^{TYPE}[a-z-]+$")
    title: str
    status: int = Field(ge=400, le=599)
    instance: str = Field(description="The path that was asked for.")
    errors: list[BrokenRule] = Field(description="Each field that breaks a rule, and the rule.")
    trace_id: str = Field(pattern="^[0-9a-f]{32}$", description="The request's, in the log too.")


IdempotencyKey = Header(
    alias=IDEMPOTENCY_KEY,
    min_length=1,
    max_length=200,
    pattern=r"^[\x21-\x7e]+$",
    description="Names the command: the same key gives the same answer and one effect.",
    examples=["7d0e4a9c-create-airports"],
)
RequiredKey = Annotated[str, IdempotencyKey]
OptionalKey = Annotated[str | None, IdempotencyKey]


async def accept_traceparent(
    traceparent: Annotated[
        str | None,
        Header(
            description="The trace that this request belongs to (W3C Trace Context). What is not"
            " one is ignored, and a new trace begins.",
            examples=["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        ),
    ] = None,
) -> None:
    """Names the header where the routes are described; services/trace.py reads it."""


def declare_answers(*reasons: str) -> Responses:
    """What a route is declared with that refuses for these reasons, beside those of every route."""
    every = sorted({*reasons, *EVERYWHERE}, key=lambda reason: (find_status(reason), reason))
    return {
        status: _response(status, list(group))
        for status, group in groupby(every, key=find_status)
    }  # fmt: skip


def find_status(reason: str) -> int:
    return STATUS.get(reason, 422)


def _response(status: int, reasons: list[str]) -> dict[str, Any]:
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": {reason: {"value": _example(status, reason)} for reason in reasons},
    }
    return {
        "description": "; ".join(dict.fromkeys(TITLES[reason] for reason in reasons)) + ".",
        "content": {MEDIA_TYPE: content},
        **({"headers": HEADERS[status]} if status in HEADERS else {}),
    }


def _example(status: int, reason: str) -> dict[str, Any]:
    return {
        "type": f"{TYPE}{reason}",
        "title": TITLES[reason],
        "status": status,
        "instance": "/path",
        "errors": [],
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }


def describe(app: FastAPI) -> None:
    """Let the application's document say what FastAPI cannot know."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if "Problem" not in schemas:
            _add_problem(schemas)
            for operation in _operations(document):
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    _limit(content["schema"], schemas, frozenset())
                for parameter in operation.get("parameters", []):
                    _without_null(parameter["schema"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation does it


def _add_problem(schemas: dict[str, Any]) -> None:
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        yield from operations.values()


def _without_null(schema: dict[str, Any]) -> None:
    """A parameter that may be left out is no `null`, which no path, query or header can say."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema |= kinds[0]


def _limit(schema: Any, schemas: dict[str, Any], seen: frozenset[str]) -> None:
    """Add what a door refuses and pydantic does not say, in this schema and all that it holds."""
    if not isinstance(schema, dict):
        return
    if (name := str(schema.get("$ref", "")).rpartition("/")[2]) and name not in seen:
        _limit(schemas[name], schemas, seen | {name})
    if schema.get("type") == "string" and not schema.keys() & {"enum", "const", "format"}:
        schema.setdefault("pattern", NO_NUL)
        schema.setdefault("maxLength", DEFAULT_LIMITS.string_bytes)
    if schema.get("type") == "object" and "properties" not in schema:
        schema.setdefault("maxProperties", DEFAULT_LIMITS.object_keys)
    if "patternProperties" in schema:  # a key that does not match is refused
        schema.setdefault("additionalProperties", False)
    for inside in _inside(schema):
        _limit(inside, schemas, seen)


def _inside(schema: dict[str, Any]) -> Iterator[Any]:
    for name in ("properties", "patternProperties"):
        yield from schema.get(name, {}).values()
    for name in ("anyOf", "allOf", "oneOf"):
        yield from schema.get(name, [])
    for name in ("items", "additionalProperties"):
        yield schema.get(name)
