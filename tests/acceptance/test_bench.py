"""The bench answers every question. No figure is promised; here each one is a sane number.

FD8: however busy the machine is, each question counts something.
"""

import json
import math
import os
import subprocess
import sys

import pytest

from bench.rig.writer import VARIANTS
from bench.write import prepare
from consumers.settings import Settings

KEYS = {
    "messages", "relay_drain_per_s", "raw_fetch_per_s", "raw_send_batch_per_s",
    "serial_ceiling_per_s", "relay_ratio_to_ceiling", "relay_ratio_to_kafka", "latency_p50_ms",
    "latency_p99_ms", "latency_kafka_p50_ms", "latency_kafka_p99_ms", "first_after_rest_ms",
    "idle_cpu_percent", "write_ratio_1", "write_ratio_10", "write_ratio_1_unit_of_work",
    "write_ratio_10_unit_of_work", "drain_rss_growth_mib", "retained_poll_ratio",
    "retained_drain_ratio", "dead_tuples_per_batch", "projection_ratio_qdrant",
    "projection_ratio_graph", "visible_qdrant_p50_ms", "visible_qdrant_p99_ms",
    "visible_graph_p50_ms", "visible_graph_p99_ms", "drift_check_keys_per_s",
    "takeover_seconds", "takeover_ratio",
}  # fmt: skip
SOME = ("--only", "write", "--only", "idle", "--only", "drift_check")
SOME_KEYS = {
    "idle_cpu_percent", "write_ratio_1", "write_ratio_10", "write_ratio_1_unit_of_work",
    "write_ratio_10_unit_of_work", "drift_check_keys_per_s",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("options", "keys"),
    [
        pytest.param(SOME, SOME_KEYS, id="some"),
        pytest.param((), KEYS, id="every", marks=pytest.mark.faults_only),
    ],
)
def test_each_question_is_answered_and_the_last_line_is_json(
    options: tuple[str, ...], keys: set[str]
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bench", "--json", "--effort", "tiny", *options],
        capture_output=True, text=True, timeout=1_700, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4_000:]
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures.keys() >= keys
    without_kafka = {key for key in keys if "kafka" in key and figures[key] is None}
    measured = [figures[key] for key in keys - without_kafka]
    assert all(math.isfinite(value) and value >= 0 for value in measured)


def test_an_unknown_question_is_named() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bench", "--only", "moon"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert "moon" in result.stderr


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["driver", "unit"])
async def test_a_writer_that_is_late_for_all_of_its_slices_counts_something(
    settings: Settings, way: str
) -> None:
    """FD8: a ratio is never divided by zero."""
    await prepare(settings)
    result = subprocess.run(  # noqa: ASYNC221 - nothing else runs here
        [sys.executable, "-m", "bench.rig.writer", way, "1", "0", "7"],
        env=os.environ | {"POSTGRES_URL": settings.libpq_url()}, input="0\n",
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    done = json.loads(result.stdout.splitlines()[-1])
    assert done.keys() == VARIANTS.keys()
    assert all(count > 0 for count in done.values())
