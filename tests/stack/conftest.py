"""Servers of this folder are always our own, whatever the environment of the tests says."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.settings import StackSettings

VARIABLES = (
    "POSTGRES_URL", "KAFKA_URL", "NEO4J_URL", "QDRANT_URL", "QDRANT_API_KEY",
    "STACK_POSTGRES", "STACK_KAFKA", "STACK_GRAPH", "STACK_QDRANT",
)  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def settings() -> StackSettings:
    return StackSettings(
        postgres_url=None, kafka_url=None, neo4j_url=None, qdrant_url=None, ready_timeout_seconds=30
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder; root's tmp_path would not do, which is closed to PostgreSQL's account."""
    path = Path(tempfile.mkdtemp(prefix="stack-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
