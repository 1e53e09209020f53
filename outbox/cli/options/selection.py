"""The options that select messages to replay, the same in every command that takes them.

A command takes all of them by `@group_options(selection=select_messages)`.
"""

from dataclasses import asdict
from typing import Annotated

import typer

from outbox.cli.options.number import FromPosition, ToPosition
from outbox.cli.options.times import Before, Since, parse_instant
from outbox.cursor.cut import HIGHEST
from outbox.replay.source import ReplaySelection

Aggregates = Annotated[
    list[str] | None, typer.Option("--aggregate", help="Of this aggregate type; repeatable.")
]
Keys = Annotated[list[str] | None, typer.Option("--key", help="Of this key; repeatable.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Of this type; repeatable.")]
Topics = Annotated[list[str] | None, typer.Option("--topic", help="Of this topic; repeatable.")]
All = Annotated[bool, typer.Option("--all", help="Every message that is published.")]


def select_messages(
    *,
    aggregate: Aggregates = None,
    key: Keys = None,
    type_: Types = None,
    topic: Topics = None,
    since: Since = None,
    before: Before = None,
    from_position: FromPosition = None,
    to_position: ToPosition = None,
    everything: All = False,
) -> ReplaySelection:
    """Return what the options select; BadParameter where there is none, nor `--all`."""
    selection = ReplaySelection(
        aggregate or None, key or None, type_ or None, topic or None,
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
