"""The drift drill with few keys, run as an operator runs it."""

import json
import subprocess
import sys

import pytest

KEYS = 2_000
PLANTED = {"missing": 10, "stale": 6, "orphaned": 2, "different": 4, "foreign": 0}


@pytest.mark.slow
def test_the_drill_finds_exactly_what_was_planted_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Writers go on meanwhile; on the default parts all servers but PostgreSQL are stand-ins."""
    for name in ("STACK_KAFKA", "STACK_GRAPH"):
        monkeypatch.delenv(name, raising=False)
    command = [sys.executable, "-m", "stack", "drift-drill", "--json", f"--keys={KEYS}"]
    run = subprocess.run(
        [*command, "--patience=15"], capture_output=True, text=True, timeout=280, check=False
    )
    assert run.returncode == 0, run.stderr
    outcome = json.loads(run.stdout)
    assert outcome["planted"] == PLANTED
    assert outcome["written"] > 0
    for store in outcome["stores"]:
        assert store["found"] == PLANTED
        assert (store["applied"], store["forgotten"], store["failed"]) == (20, 2, 0)
        assert (store["wrong"], store["left"], store["touched"]) == (0, 0, 0)
        assert store["check"]["seconds"] > 0
    assert "check again" in run.stderr
