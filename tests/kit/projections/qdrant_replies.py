"""Replies of a Qdrant server that a test makes up, for a client whose transport is a fake."""

import json
from collections.abc import Callable
from typing import Any

import httpx
from qdrant_client import AsyncQdrantClient

from consumers.mappings.catalog import catalog_qdrant
from consumers.qdrant.projection import QdrantProjection
from tests.kit.projections.projection_suite import DIMENSION, CountingEmbedder

Reply = Callable[[httpx.Request], httpx.Response]


def projection_over(embedder: CountingEmbedder, reply: Reply) -> QdrantProjection:
    """A projection whose server is a function of the test: a fake at the HTTP port."""
    client = AsyncQdrantClient(
        url="http://qdrant.test", check_compatibility=False, transport=httpx.MockTransport(reply)
    )
    return catalog_qdrant(client, embedder)


def result(body: Any, status: int = 200) -> httpx.Response:
    """A success in Qdrant's own form."""
    return httpx.Response(status, json={"result": body, "status": "ok", "time": 0})


def refusal(status: int) -> httpx.Response:
    """A refusal in Qdrant's own form."""
    return httpx.Response(status, json={"status": {"error": "Wrong input"}, "time": 0})


def answer_writes(answer: httpx.Response, seen: list[Any] | None = None) -> Reply:
    """A server that has nothing stored, and gives this answer to each write.

    Each write's body is added to `seen`.
    """

    def reply(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/points/batch"):
            (seen if seen is not None else []).append(json.loads(request.content))
            return answer
        return result(INFO) if request.method == "GET" else result([])

    return reply


PARAMS = {"vectors": {"size": DIMENSION, "distance": "Cosine"}}
HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10}
OPTIMIZER = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1,
    "default_segment_number": 0,
    "flush_interval_sec": 5,
}
INFO = {
    "status": "green",
    "optimizer_status": "ok",
    "segments_count": 1,
    "payload_schema": {},
    "config": {"params": PARAMS, "hnsw_config": HNSW, "optimizer_config": OPTIMIZER},
}
