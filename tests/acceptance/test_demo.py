"""The demo, run as a user runs it: `python -m stack demo`."""

import json
import subprocess
import sys

import pytest

KEYS = {
    "commands",
    "committed",
    "published",
    "qdrant_points",
    "qdrant_tombstones",
    "graph_nodes",
    "drift_qdrant",
    "drift_graph",
    "seconds",
}


@pytest.mark.slow
@pytest.mark.parametrize("limit", [200])
def test_the_demo_ends_with_stores_that_agree(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--limit 200` puts 200 items in, changes 100 and removes 50; it runs on the default parts."""
    monkeypatch.delenv("STACK_KAFKA", raising=False)
    command = [sys.executable, "-m", "stack", "demo", "--once", "--json", f"--limit={limit}"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout.splitlines()[-1])
    assert summary.keys() >= KEYS
    assert summary["drift_qdrant"] == summary["drift_graph"] == summary["dead_letters"] == 0
    assert summary["commands"] == 1 + 200 + 100 + 50
    assert summary["committed"] == summary["published"] == 2 * summary["commands"]
    assert summary["qdrant_points"] == summary["graph_nodes"] == 150
    assert summary["qdrant_tombstones"] == summary["graph_tombstones"] == 50
    assert "near new york" in run.stderr
