"""What a drift check has found, as JSON and as tables."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from consumers.drift.check import Drift
from outbox.runtime.output import print_table
from outbox.streams.difference import DifferenceKind, Pair
from outbox.streams.heads import Entry
from outbox.streams.own_rows import RowDifference
from outbox.streams.stored_entries import ForeignEntry

LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class DriftSummary:
    """What was found in one projection, or in a service's own rows.

    `error` is why it could not be compared. `counts` are exact; `findings` are limited, each kind
    by itself.
    """

    projection: str
    error: str | None = None
    heads: int = 0
    shown: int = 0
    seconds: float = 0.0
    counts: Mapping[DifferenceKind, int] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def keys(self) -> int:
        """How many keys differ, of all kinds together."""
        return sum(self.counts.values())


def summarize_drift(drift: Drift, limit: int) -> DriftSummary:
    """Summarize a check, with at most `limit` findings of each kind.

    The summary stays valid after the temporary file of the check is gone.
    """
    findings = [_describe_pair(pair) for pair in _limit_each_kind(drift.pairs(), limit)]
    findings += [_describe_foreign(each) for each in islice(drift.foreign(), limit)]
    seconds = round(drift.seconds, 3)
    return DriftSummary(
        drift.projection, None, drift.heads, drift.shown, seconds, dict(drift.counts), findings
    )


def summarize_rows(name: str, difference: RowDifference, seconds: float) -> DriftSummary:
    """Summarize the comparison of a service's own rows with the stream heads."""
    findings = [
        {
            "kind": kind,
            "aggregate": stream.aggregate,
            "key": stream.key,
            "version": None,
            "shown_version": None,
            "digest": None,
            "shown_digest": None,
        }
        for kind in DifferenceKind
        for stream in difference.of(kind)
    ]
    counts = {kind: difference.counts[kind] for kind in DifferenceKind}
    return DriftSummary(
        name, None, difference.heads, difference.rows, round(seconds, 3), counts, findings
    )


def print_summary(all_found: Iterable[DriftSummary]) -> None:
    """Print the counts of each projection, and then the keys that differ."""
    all_found = list(all_found)
    columns = ("projection", "keys", *DifferenceKind, "seconds")
    print_table(columns, [_build_counts_row(each) for each in all_found])
    rows = [(each.projection, *f.values()) for each in all_found for f in each.findings]
    if rows:
        print_table(
            ("projection", "kind", "aggregate", "key", "version", "shown", "digest", "shown"), rows
        )


def _build_counts_row(each: DriftSummary) -> tuple[object, ...]:
    if each.error:
        return (each.projection, "not compared")
    counts = [f"{each.counts[kind]:,}" for kind in DifferenceKind]
    return (each.projection, f"{each.heads:,}", *counts, f"{each.seconds:.1f}")


def _limit_each_kind(pairs: Iterable[Pair], limit: int) -> Iterable[Pair]:
    seen: Counter[DifferenceKind] = Counter()
    for pair in pairs:
        if pair.kind and seen[pair.kind] < limit:
            seen[pair.kind] += 1
            yield pair


def _describe_pair(pair: Pair) -> dict[str, Any]:
    return {
        "kind": pair.kind,
        "aggregate": pair.stream.aggregate,
        "key": pair.stream.key,
        "version": pair.head.version if pair.head else None,
        "shown_version": pair.stored.version if pair.stored else None,
        "digest": _describe_content(pair.head),
        "shown_digest": _describe_content(pair.stored),
    }


def _describe_foreign(entry: ForeignEntry) -> dict[str, Any]:
    """Its place in the store stands as the key, and why it is foreign stands as the digest."""
    return {
        "kind": DifferenceKind.FOREIGN,
        "aggregate": None,
        "key": entry.place,
        "version": None,
        "shown_version": None,
        "digest": None,
        "shown_digest": entry.why,
    }


def _describe_content(entry: Entry | None) -> str | None:
    """The digest, and that the key is deleted if it is; None if there is no entry."""
    if entry is None:
        return None
    return f"{entry.digest} (deleted)" if entry.deleted else entry.digest
