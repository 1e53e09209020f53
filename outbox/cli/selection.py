"""The options that select messages to replay, the same in every command that takes them."""

from dataclasses import asdict
from typing import Annotated

import typer

from outbox.cli.times import parse_instant
from outbox.cursor.cut import HIGHEST
from outbox.replay.source import ReplaySelection

Aggregates = Annotated[
    list[str] | None, typer.Option("--aggregate", help="Of this aggregate type; repeatable.")
]
Keys = Annotated[list[str] | None, typer.Option("--key", help="Of this key; repeatable.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Of this type; repeatable.")]
Topics = Annotated[list[str] | None, typer.Option("--topic", help="Of this topic; repeatable.")]
Since = Annotated[
    str | None,
    typer.Option(help="From this ISO time on (UTC if it names no zone), or so long ago: 1h."),
]
Before = Annotated[str | None, typer.Option(help="Before such a time, which is not included.")]
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
    """Return what the options select; BadParameter where there is none, nor `--all`."""
    selection = ReplaySelection(
        aggregates or None, keys or None, types or None, topics or None,
        parse_instant(since), parse_instant(before), from_position or 0,
        HIGHEST if to_position is None else to_position,
    )  # fmt: skip
    if selection == ReplaySelection() and not everything:
        raise typer.BadParameter("say which messages, or --all")
    return selection


def describe_selection(selection: ReplaySelection) -> str:
    """Return the selection in words, for people: `keys a b, types c`, or `all`."""
    given = {k: v for k, v in asdict(selection).items() if v not in (None, 0, HIGHEST)}
    return (
        ", ".join(f"{name.replace('_', ' ')} {_render_value(given[name])}" for name in given)
        or "all"
    )


def _render_value(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
