"""OpenAPI: the document says exactly what is answered, with each status, its body and its headers.

A route names the reasons for which it may refuse a request:
`responses=declare_answers("not-found", "unavailable")`. The answers that every route may give are
added here. `describe` adds to the schemas of the bodies what strict JSON refuses besides.
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

# Any request may be refused for these: its body is read, and the server may be at fault.
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
    """Declare the header in the description of the routes; services/trace.py reads it."""


def declare_answers(*reasons: str) -> Responses:
    """The `responses` of a route that may refuse for these reasons and for those of every route."""
    every = sorted({*reasons, *EVERYWHERE}, key=lambda reason: (find_status(reason), reason))
    return {
        status: _build_response(status, list(group))
        for status, group in groupby(every, key=find_status)
    }  # fmt: skip


def find_status(reason: str) -> int:
    return STATUS.get(reason, 422)


def _build_response(status: int, reasons: list[str]) -> dict[str, Any]:
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": {reason: {"value": _build_example(status, reason)} for reason in reasons},
    }
    return {
        "description": "; ".join(dict.fromkeys(TITLES[reason] for reason in reasons)) + ".",
        "content": {MEDIA_TYPE: content},
        **({"headers": HEADERS[status]} if status in HEADERS else {}),
    }


def _build_example(status: int, reason: str) -> dict[str, Any]:
    return {
        "type": f"{TYPE}{reason}",
        "title": TITLES[reason],
        "status": status,
        "instance": "/path",
        "errors": [],
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }


def describe(app: FastAPI) -> None:
    """Add to the application's OpenAPI document what FastAPI cannot know."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if "Problem" not in schemas:
            _add_problem(schemas)
            for operation in _list_operations(document):
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    _add_limits(content["schema"], schemas, frozenset())
                for parameter in operation.get("parameters", []):
                    _remove_null(parameter["schema"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation does it


def _add_problem(schemas: dict[str, Any]) -> None:
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem


def _list_operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        yield from operations.values()


def _remove_null(schema: dict[str, Any]) -> None:
    """Remove `null` from a parameter's types: no path, query or header can send it."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema |= kinds[0]


def _add_limits(schema: Any, schemas: dict[str, Any], seen: frozenset[str]) -> None:
    """Add what strict JSON refuses and pydantic does not say, in this schema and all inside it."""
    if not isinstance(schema, dict):
        return
    if (name := str(schema.get("$ref", "")).rpartition("/")[2]) and name not in seen:
        _add_limits(schemas[name], schemas, seen | {name})
    if schema.get("type") == "string" and not schema.keys() & {"enum", "const", "format"}:
        schema.setdefault("pattern", NO_NUL)
        schema.setdefault("maxLength", DEFAULT_LIMITS.string_bytes)
    if schema.get("type") == "object" and "properties" not in schema:
        schema.setdefault("maxProperties", DEFAULT_LIMITS.object_keys)
    if "patternProperties" in schema:  # a key that does not match is refused
        schema.setdefault("additionalProperties", False)
    for inside in _list_inner(schema):
        _add_limits(inside, schemas, seen)


def _list_inner(schema: dict[str, Any]) -> Iterator[Any]:
    for name in ("properties", "patternProperties"):
        yield from schema.get(name, {}).values()
    for name in ("anyOf", "allOf", "oneOf"):
        yield from schema.get(name, [])
    for name in ("items", "additionalProperties"):
        yield schema.get(name)
