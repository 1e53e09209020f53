"""What a command imports before it does anything: an operator waits for it each time."""

import subprocess
import sys

import pytest

HEAVY = ("fastapi", "neo4j", "numpy", "pandas", "qdrant_client", "wordllama")


@pytest.mark.parametrize("program", ["consumers", "outbox", "services"])
def test_a_command_that_needs_postgresql_only_imports_no_store_and_no_embedder(
    program: str,
) -> None:
    source = f"import sys, {program}.__main__; print(*sys.modules)"
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "psycopg" in loaded
    assert not loaded & set(HEAVY)
