"""`python -m consumers skip-removed`: goes past records that were lost before they were read."""

from typing import Annotated

import psycopg
import typer

from consumers.settings import Settings
from outbox.cli.console import Json, Reason, ask, report_halt
from outbox.kafka import LostRecords, find_lost_records, group_of, skip_lost_records
from outbox.operations import Operation
from outbox.runtime.output import print_table, say, say_json

Consumer = Annotated[str, typer.Argument(help="Its name: catalog-commands, qdrant or neo4j.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only report what would be passed over.")]
TIMEOUT_SECONDS = 30.0
COLUMNS = ("topic", "partition", "committed", "earliest", "end", "messages")


def skip_removed(
    consumer: Consumer, reason: Reason, dry_run: DryRun = False, json: Json = False
) -> None:
    """Let a consumer that halted go on at the earliest record that the broker still has.

    Stop it first. What it passes over it never applies: then `drift repair` brings a projection
    what it lacks, from PostgreSQL; a command that was removed must be sent again. Exit code 3
    if an operator has to do something first.
    """
    settings = Settings()
    operation = Operation(settings.operator, "skip-removed", consumer, reason)

    async def skip(connection: psycopg.AsyncConnection) -> list[LostRecords]:
        with report_halt():
            return await _skip(settings, connection, operation, dry_run=dry_run)

    _report(ask(settings, skip), dry_run=dry_run, json=json)


async def _skip(
    settings: Settings,
    connection: psycopg.AsyncConnection,
    operation: Operation,
    *,
    dry_run: bool,
) -> list[LostRecords]:
    """Skip what was lost, and return it.

    The operation is on record if and only if the broker has taken the new offsets, unless the
    process crashes between the two.
    """
    operation.require_reason()
    group = group_of(operation.subject)
    found = await find_lost_records(settings.kafka_url, group, TIMEOUT_SECONDS)
    if found and not dry_run:
        operation.details["partitions"] = [_as_json(each) for each in found]
        async with connection.transaction():
            await operation.record(connection)
            await skip_lost_records(settings.kafka_url, group, found)
    return found


def _as_json(each: LostRecords) -> dict[str, object]:
    return each._asdict() | {"messages": each.messages}


def _report(found: list[LostRecords], *, dry_run: bool, json: bool) -> None:
    if json:
        say_json({"passed_over": [_as_json(each) for each in found], "dry_run": dry_run})
        return
    print_table(COLUMNS, [_as_json(each).values() for each in found])
    would = "would go on" if dry_run else "goes on"
    say(f"{sum(each.messages for each in found)} messages are lost to it; it {would} there")
