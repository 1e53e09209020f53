"""Prefer: a write with `Prefer: wait=5` is answered once the stores show it (RFC 7240).

The services do not know the stores that follow them. Whoever starts a service gives it an
AwaitedStores, such as that of consumers/read_your_writes.py. Without one the preference is ignored,
which the RFC allows.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Protocol

from fastapi import Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from outbox.streams.heads import StreamKey

MAX_SHOWN = 100
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

    `shown` is the older version that the store shows, 0 if it shows nothing, and None if it did not
    answer.
    """

    store: str
    stream: StreamKey
    version: int
    shown: int | None
    why: Why
    detail: str


class AwaitedStores(Protocol):
    """The stores that follow the services' events, for a write that waits for them."""

    @property
    def longest_seconds(self) -> float:
        """The longest wait; a longer one is cut to it."""

    async def wait(self, streams: Sequence[StreamKey], within_seconds: float) -> list[Pending]:
        """Wait until the stores show these keys at their present versions.

        Returns what they do not show in time, so an empty list is success. Never raises.
        """


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
    pending: list[PendingView] = Field(max_length=MAX_SHOWN)


Prefer = Annotated[
    str | None,
    Header(
        description="`wait=5`: answer once the stores show the write, or say after so many seconds"
        " what they do not show yet (RFC 7240)."
    ),
]


async def accept_prefer(prefer: Prefer = None) -> None:
    """Declare the header in the description of the writes; `answer_command` reads it."""


PREFERENCE_APPLIED = {
    "Preference-Applied": {
        "description": "`wait=5`, where the stores were waited for.",
        "schema": {"type": "string"},
    }
}


async def answer_command(
    request: Request,
    document: dict[str, Any],
    status: int,
    stores: AwaitedStores | None,
    streams: Sequence[StreamKey],
) -> JSONResponse:
    """The response to a committed command: 202 where it waited, and some store does not show it."""
    asked = read_preferred_seconds(request.headers.getlist("prefer"))
    if stores is None or asked is None:
        return JSONResponse(document, status)
    seconds = min(asked, stores.longest_seconds)
    pending = await stores.wait(streams, seconds)
    headers = {"Preference-Applied": f"wait={seconds:g}"}
    if not pending:
        return JSONResponse(document, status, headers)
    shown = [PendingView.of(each) for each in pending[:MAX_SHOWN]]
    answer = PendingAnswer(**document, pending_count=len(pending), pending=shown)
    return JSONResponse(answer.model_dump(mode="json"), 202, headers)


def read_preferred_seconds(fields: Iterable[str]) -> float | None:
    """The first `wait` of the header's fields, in seconds; None where there is none.

    A `wait` that is no number of seconds is ignored.
    """
    found = _WAIT.search(",".join(_QUOTED.sub(_unquote, field) for field in fields))
    if found is None:
        return None
    return float(found[1]) if len(found[1]) <= MAX_DIGITS else float("inf")


def _unquote(quoted: re.Match[str]) -> str:
    """Unquote a number; replace any other quoted text, so that nothing is found inside it."""
    inside = quoted[0][1:-1]
    return inside if inside.isdecimal() and inside.isascii() else '""'
