"""Waiting: `Prefer: wait=5` on a write answers when the stores show what was written (RFC 7240).

The services know no store that follows them. Whoever starts them gives a Stores, see
consumers/read_your_writes.py; without one the preference is ignored, which the RFC allows.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from outbox.streams.heads import StreamKey

MAX_TOLD = 100
MAX_DIGITS = 9

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*([0-9]+)\s*(?=$|[,;])", re.IGNORECASE)


class Why(StrEnum):
    """lag: on its way. parked: Kafka refused a message of this key. dead: the store's consumer
    could not apply one. down: the store does not answer. unknown: PostgreSQL does not answer."""

    LAG = "lag"
    PARKED = "parked"
    DEAD = "dead"
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Pending:
    """A key that a store does not show yet at `version`.

    `shown` is the older version that it shows, 0 for nothing; None where it did not answer.
    """

    store: str
    stream: StreamKey
    version: int
    shown: int | None
    why: Why
    detail: str


class AwaitedStores(Protocol):
    """The stores that follow the services' events."""

    @property
    def longest_seconds(self) -> float:
        """A longer wait is cut to this."""

    async def wait(self, streams: Sequence[StreamKey], within_seconds: float) -> list[Pending]:
        """What is not shown in time of the versions that these keys have now; never raises."""


class PendingView(BaseModel):
    """A key that a store does not show yet, and why; see Why and Pending."""

    store: str
    aggregate: str
    key: str
    version: int
    shown: int | None
    why: Why
    detail: str

    @classmethod
    def of(cls, pending: Pending) -> "PendingView":
        return cls(
            store=pending.store,
            aggregate=pending.stream.aggregate,
            key=pending.stream.key,
            version=pending.version,
            shown=pending.shown,
            why=pending.why,
            detail=pending.detail,
        )


class PendingAnswer(BaseModel):
    """The command is done and committed; some stores do not show it yet.

    `pending_count` counts all; `pending` has the first 100.
    """

    command_id: str
    result: dict[str, Any]
    pending_count: int
    pending: list[PendingView] = Field(max_length=MAX_TOLD)


async def answer_command(
    request: Request,
    document: dict[str, Any],
    status: int,
    stores: AwaitedStores | None,
    streams: Sequence[StreamKey],
) -> JSONResponse:
    """The answer of a command that is committed; 202 where a wait was asked for and is not over."""
    asked = read_preferred_seconds(request.headers.getlist("prefer"))
    if stores is None or asked is None:
        return JSONResponse(document, status)
    seconds = min(asked, stores.longest_seconds)
    pending = await stores.wait(streams, seconds)
    headers = {"Preference-Applied": f"wait={seconds:g}"}
    if not pending:
        return JSONResponse(document, status, headers)
    told = [PendingView.of(each) for each in pending[:MAX_TOLD]]
    answer = PendingAnswer(**document, pending_count=len(pending), pending=told)
    return JSONResponse(answer.model_dump(mode="json"), 202, headers)


def read_preferred_seconds(fields: Iterable[str]) -> float | None:
    """The first `wait` of the header's fields; what is not a number of seconds is ignored."""
    found = _WAIT.search(",".join(_QUOTED.sub(_unquoted, field) for field in fields))
    if found is None:
        return None
    return float(found[1]) if len(found[1]) <= MAX_DIGITS else float("inf")


def _unquoted(quoted: re.Match[str]) -> str:
    """A number may be quoted; any other quoted text hides what it holds."""
    inside = quoted[0][1:-1]
    return inside if inside.isdecimal() and inside.isascii() else '""'
