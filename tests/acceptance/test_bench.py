"""The bench answers every question; its figures are promised nowhere, so here they are sane."""

import json
import math
import subprocess
import sys

import pytest

KEYS = {
    "messages", "relay_drain_per_s", "raw_fetch_per_s", "raw_send_batch_per_s",
    "serial_ceiling_per_s", "relay_ratio_to_ceiling", "relay_ratio_to_kafka", "latency_p50_ms",
    "latency_p99_ms", "latency_kafka_p50_ms", "latency_kafka_p99_ms", "first_after_rest_ms",
    "idle_cpu_percent", "write_ratio_1", "write_ratio_10", "write_ratio_1_unit_of_work",
    "write_ratio_10_unit_of_work", "drain_rss_growth_mib", "retained_poll_ratio",
    "retained_drain_ratio", "dead_tuples_per_batch", "projection_ratio_qdrant",
    "projection_ratio_graph", "visible_qdrant_p50_ms", "visible_qdrant_p99_ms",
    "visible_graph_p50_ms", "visible_graph_p99_ms", "drift_check_keys_per_s",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_question_is_answered_and_the_last_line_is_json() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "bench", "--json", "--effort", "tiny"],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-4_000:]
    figures = json.loads(told.stdout.splitlines()[-1])
    assert figures.keys() >= KEYS
    without_kafka = {key for key in KEYS if "kafka" in key and figures[key] is None}
    measured = [figures[key] for key in KEYS - without_kafka]
    assert all(math.isfinite(value) and value >= 0 for value in measured)


def test_an_unknown_question_is_named() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "bench", "--only", "moon"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 2
    assert "moon" in told.stderr
