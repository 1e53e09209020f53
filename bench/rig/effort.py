"""Effort: how much work a run does; with the quick one all questions take some minutes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """How much each question does: counts, and durations in seconds."""

    messages: int
    kafka_messages: int
    latency_seconds: float
    rests: int
    idle_seconds: float
    write_slices: int
    write_slice_seconds: float
    retained_messages: int
    retained_drain: int
    open_seconds: float
    bloat_seconds: float
    projected_keys: int
    visible_warm_seconds: float
    visible_seconds: float
    takeovers: int


FULL = Effort(
    messages=1_000_000,
    kafka_messages=500_000,
    latency_seconds=20.0,
    rests=20,
    idle_seconds=30.0,
    write_slices=8,
    write_slice_seconds=2.0,
    retained_messages=10_000_000,
    retained_drain=100_000,
    open_seconds=600.0,
    bloat_seconds=10.0,
    projected_keys=20_000,
    visible_warm_seconds=60.0,
    visible_seconds=20.0,
    takeovers=5,
)
QUICK = Effort(
    messages=100_000,
    kafka_messages=100_000,
    latency_seconds=5.0,
    rests=5,
    idle_seconds=6.0,
    write_slices=3,
    write_slice_seconds=1.0,
    retained_messages=300_000,
    retained_drain=50_000,
    open_seconds=0.0,
    bloat_seconds=3.0,
    projected_keys=2_000,
    visible_warm_seconds=4.0,
    visible_seconds=4.0,
    takeovers=2,
)
TINY = Effort(
    messages=2_000,
    kafka_messages=2_000,
    latency_seconds=0.5,
    rests=1,
    idle_seconds=1.0,
    write_slices=1,
    write_slice_seconds=0.3,
    retained_messages=2_000,
    retained_drain=2_000,
    open_seconds=0.0,
    bloat_seconds=0.5,
    projected_keys=600,
    visible_warm_seconds=0.5,
    visible_seconds=0.5,
    takeovers=1,
)
EFFORTS = {"full": FULL, "quick": QUICK, "tiny": TINY}
