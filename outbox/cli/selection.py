"""The options that select messages to be said again, alike in every command that takes them."""

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from outbox.cli.number import time_ago
from outbox.cursor.cut import HIGHEST
from outbox.escape import escape
from outbox.replay.source import ReplaySelection

DURATION = re.compile(r"([0-9]{1,9})([smhdw])").fullmatch
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Aggregates = Annotated[
    list[str] | None, typer.Option("--aggregate", help="Of this aggregate type; repeatable.")
]
Keys = Annotated[list[str] | None, typer.Option("--key", help="Of this key; repeatable.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Of this type; repeatable.")]
Topics = Annotated[list[str] | None, typer.Option("--topic", help="Of this topic; repeatable.")]
Since = Annotated[
    str | None, typer.Option(help="From this ISO time on (UTC where it does not say), or 1h ago.")
]
Before = Annotated[str | None, typer.Option(help="Likewise; not itself included.")]
All = Annotated[bool, typer.Option("--all", help="Every message that is published.")]


def build_selection(
    aggregates: list[str] | None,
    keys: list[str] | None,
    types: list[str] | None,
    topics: list[str] | None,
    since: str | None,
    before: str | None,
    from_position: int | None,
    to_position: int | None,
    *,
    everything: bool,
) -> ReplaySelection:
    """Everything only where it is said in so many words."""
    selection = ReplaySelection(
        aggregates or None, keys or None, types or None, topics or None,
        _time(since), _time(before), from_position or 0,
        HIGHEST if to_position is None else to_position,
    )  # fmt: skip
    if selection == ReplaySelection() and not everything:
        raise typer.BadParameter("say which messages, or --all")
    return selection


def describe_selection(selection: ReplaySelection) -> str:
    """What is selected, as a person reads it."""
    said = {k: v for k, v in asdict(selection).items() if v not in (None, 0, HIGHEST)}
    return ", ".join(f"{name.replace('_', ' ')} {_shown(said[name])}" for name in said) or "all"


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _time(said: str | None) -> datetime | None:
    if said is None:
        return None
    try:
        if match := DURATION(said):
            return time_ago(timedelta(**{UNITS[match[2]]: int(match[1])}))
        time = datetime.fromisoformat(said)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{escape(said)}: neither an ISO time nor a duration as 90s or 1h"
        ) from None
