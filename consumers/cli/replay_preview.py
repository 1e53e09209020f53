"""`python -m consumers replay-preview`: what a replay would mend in the live stores."""

from dataclasses import asdict
from typing import Annotated

import typer

from consumers.drift.replay_preview import StoreDifference, find_difference
from consumers.installed import PROJECTIONS
from consumers.projections.projection import StreamKey
from consumers.settings import Settings
from outbox.cli.console import Json
from outbox.cli.options.option_groups import group_options
from outbox.cli.options.selection import select_messages
from outbox.cli.progress_bar import show_progress
from outbox.postgres.connection import connect_command
from outbox.replay.source import ReplaySelection, read_selected_keys
from outbox.runtime.lifecycle import answer
from outbox.runtime.output import print_table, say_json
from outbox.runtime.progress import OnProgress

For = Annotated[str | None, typer.Option("--for", help="Only this consumer's store.")]


@group_options(selection=select_messages)
def replay_preview(selection: ReplaySelection, consumer: For = None, json: Json = False) -> None:
    """Report what the live stores lack of a selection, and what a replay of it would mend.

    It takes the options of `python -m outbox replay start`, and sends nothing.
    """
    if consumer is not None and consumer not in PROJECTIONS:
        raise typer.BadParameter(f"must be one of {', '.join(PROJECTIONS)}")
    settings = Settings()
    with show_progress("positions read", quiet=json) as on_progress:
        found = answer(settings, _compare(settings, selection, consumer, on_progress))
    if json:
        say_json([asdict(each) for each in found])
        return
    columns = ("store", "keys", "missing", "stale", "different", "mended", "moved", "left")
    print_table(columns, [list(asdict(each).values())[:-1] for each in found])


async def _compare(
    settings: Settings, selection: ReplaySelection, consumer: str | None, on_progress: OnProgress
) -> list[StoreDifference]:
    found = []
    async with await connect_command(settings, "replay preview") as connection:
        selected = {
            StreamKey(*stream): version
            for stream, version in (
                await read_selected_keys(connection, selection, on_progress)
            ).items()
        }
        for name, assemble in PROJECTIONS.items():
            if consumer in (None, name):
                async with assemble(settings) as projection:
                    found.append(await find_difference(connection, projection, selected))
    return found
