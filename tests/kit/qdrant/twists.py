"""Twists: answers that a scripted Qdrant gives in place of its usual ones.

The shapes of the answers are those of Qdrant's REST interface, or of a proxy that stands before it.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

WRITES = "/points/batch"
QUESTIONS = "/points"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


@dataclass(eq=False)
class Twist:
    """The answer to the next `times` requests whose path ends with `path`.

    `done` is how many of a request's operations are carried out before the answer, None for all.
    Without an answer there is silence for as long as the caller waits.
    """

    answer: Answer | None
    done: int | None = 0
    path: str = WRITES
    times: int = 1
    happened: asyncio.Event = field(default_factory=asyncio.Event)


def result(body: Any) -> Answer:
    """Return an answer of success with this result."""
    return Answer(200, orjson.dumps({"result": body, "status": "ok", "time": 0.0}))


def refusal(status: int, said: str, *headers: tuple[str, str]) -> Answer:
    """Return an answer of failure with this text."""
    body = orjson.dumps({"status": {"error": said}, "time": 0.0})
    return Answer(status, body, (("content-type", "application/json"), *headers))


def page(status: int) -> Answer:
    """Return the HTML page that a proxy may answer with in Qdrant's place."""
    body = b"<html><body><h1>The request could not be satisfied</h1></body></html>"
    return Answer(status, body, (("content-type", "text/html"),))


def unfinished(status: str, operations: int = 1) -> Answer:
    """Return a success that says nothing of the write: `acknowledged` or `wait_timeout`."""
    return result([{"operation_id": n, "status": status} for n in range(operations)])


DISK_FULL = refusal(
    500, "Service internal error: No space left on device: WAL buffer size exceeds available disk"
)
BUSY = refusal(429, "Too many requests", ("retry-after", "1"))


def described(size: int, metadata: dict[str, Any] | None) -> dict[str, Any]:
    """Return the description of a collection."""
    optimizer = {
        "deleted_threshold": 0.2, "vacuum_min_vector_number": 1, "default_segment_number": 0,
        "flush_interval_sec": 5,
    }  # fmt: skip
    config = {
        "params": {"vectors": {"size": size, "distance": "Cosine"}},
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10},
        "optimizer_config": optimizer,
        "metadata": metadata,
    }
    return {
        "status": "green",
        "optimizer_status": "ok",
        "segments_count": 1,
        "payload_schema": {},
        "config": config,
    }
