"""Schemathesis (FD6): what OpenAPI says is what is answered, whatever is asked.

The tool runs as its users run it, as a process, against the real service on a port: all of its
checks, in all of its phases, with a fixed seed and a bounded number of examples.
"""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from consumers.assembly import live_vectors
from consumers.settings import Settings
from services.assembly import embedder_of
from tests.kit.web.served import Served, served

pytestmark = pytest.mark.anyio

HOOKS = Path(__file__).parents[2] / "kit" / "web"
SEED = 9
EXAMPLES = 30  # an operation and phase, beside those that cover the boundaries of each schema
WITHIN_SECONDS = 900.0


@pytest.mark.timeout(1_000)
async def test_schemathesis_finds_nothing_that_the_document_does_not_say(
    postgres_url: str, tmp_path: Path
) -> None:
    settings = Settings(
        postgres_url=SecretStr(postgres_url), qdrant_url=f"file:{tmp_path / 'qdrant'}"
    )
    async with served(settings) as service:
        await live_vectors(service.api.search._client, embedder_of(settings)).prepare()
        status, said = await run_schemathesis(service, tmp_path)
    assert status == 0, said


async def run_schemathesis(service: Served, folder: Path) -> tuple[int, str]:
    """Its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli",
        "--config-file", str(HOOKS / "schemathesis.toml"),
        "run", f"{service.url}/openapi.json",
        "--seed", str(SEED),
        "--max-examples", str(EXAMPLES),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(HOOKS), "SCHEMATHESIS_HOOKS": "schemathesis_hooks"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(WITHIN_SECONDS):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode(errors="replace")
