"""Effort: how much work a run does; with the quick one all questions take some minutes."""

from dataclasses import dataclass
from typing import Any


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


# How much of each with the full effort, the quick and the tiny one.
AMOUNTS: dict[str, tuple[Any, Any, Any]] = {
    "messages": (1_000_000, 100_000, 2_000),
    "kafka_messages": (500_000, 100_000, 2_000),
    "latency_seconds": (20.0, 5.0, 0.5),
    "rests": (20, 5, 1),
    "idle_seconds": (30.0, 6.0, 1.0),
    "write_slices": (8, 3, 1),
    "write_slice_seconds": (2.0, 1.0, 0.3),
    "retained_messages": (10_000_000, 300_000, 2_000),
    "retained_drain": (100_000, 50_000, 2_000),
    "open_seconds": (600.0, 0.0, 0.0),
    "bloat_seconds": (10.0, 3.0, 0.5),
    "projected_keys": (20_000, 2_000, 600),
    "visible_warm_seconds": (60.0, 4.0, 0.5),
    "visible_seconds": (20.0, 4.0, 0.5),
    "takeovers": (5, 2, 1),
}


def read_column(number: int) -> Effort:
    """Return the effort that stands in this column of AMOUNTS."""
    return Effort(**{name: amounts[number] for name, amounts in AMOUNTS.items()})


EFFORTS = {name: read_column(number) for number, name in enumerate(("full", "quick", "tiny"))}
