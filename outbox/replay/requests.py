"""Replays that operators asked for, as rows; each change of one is recorded as an operation.

    running ⇄ paused
       │  ╲    │
     done  cancelled

A replay never disturbs the live order of a key. Each of its records is a duplicate of one that the
broker has acknowledged: the same id, payload and version, on the same topic and partition. So the
first occurrence of a message never comes from a replay, and never has to wait for one.

A replay for one consumer is on the topic of all, too: the header `replayfor` names the consumer,
and the others skip such a record. A topic of its own would be read beside the live one: in another
key queue, past a key that is parked, and not at all by a consumer that does not subscribe to it.
The price is that everybody fetches the records. A consumer that does not know the header handles a
duplicate, as it must anyway.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from outbox.errors import InvalidInput
from outbox.operations import Operation
from outbox.postgres.sql_file import read_statements
from outbox.replay.source import ReplayPreview, ReplaySelection

SQL = read_statements(__file__)


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay and how far it is.

    `consumer` is None for all of them; `owner` is the process that runs it now, or None.
    """

    id: int
    status: str
    consumer: str | None
    aggregates: list[str] | None
    keys: list[str] | None
    types: list[str] | None
    topics: list[str] | None
    since: datetime | None
    before: datetime | None
    first_position: int
    last_position: int
    position: int
    messages_per_second: float
    selected: int
    sent: int
    refused: int
    operator: str
    reason: str
    created_at: datetime
    ended_at: datetime | None
    term: int
    owner: str | None

    @property
    def selection(self) -> ReplaySelection:
        return ReplaySelection(
            self.aggregates, self.keys, self.types, self.topics, self.since, self.before,
            self.first_position, self.last_position,
        )  # fmt: skip


async def start(
    connection: psycopg.AsyncConnection[Any],
    selection: ReplaySelection,
    found: ReplayPreview,
    consumer: str | None,
    messages_per_second: float,
    operation: Operation,
) -> Replay:
    """Record a replay of what `found` has counted, which a Replayer may run from now on.

    Raises InvalidInput where nothing is selected, or the operation has no reason.
    """
    operation.require_reason()
    if not found.messages:
        raise InvalidInput("replay", "selection", "must select a message that is published")
    values = asdict(selection) | {
        "last_position": found.last_position, "consumer": consumer, "selected": found.messages,
        "rate": messages_per_second, "operator": operation.operator,
        "reason": operation.reason.strip(),
    }  # fmt: skip
    async with connection.transaction():
        replay = await _fetch_one(connection, SQL["start"], values)
        await _record_operation(connection, operation, replay)
    return replay


async def list_replays(connection: psycopg.AsyncConnection[Any], limit: int) -> list[Replay]:
    """Return at most `limit` replays, the newest first."""
    return await _fetch_all(connection, SQL["list"], {"id": None, "limit": limit})


async def find(connection: psycopg.AsyncConnection[Any], replay_id: int) -> Replay:
    """Return the replay of this id; raise InvalidInput where there is none."""
    found = await _fetch_all(connection, SQL["list"], {"id": replay_id, "limit": 1})
    if not found:
        raise InvalidInput("replay", "id", "must be that of a replay; see `outbox replay list`")
    return found[0]


async def pause(
    connection: psycopg.AsyncConnection[Any], replay_id: int, operation: Operation
) -> Replay:
    """Pause a running replay; a process that runs it stops after the batch in flight.

    Raises InvalidInput where it is not running.
    """
    return await _change(connection, replay_id, operation, ("running",), "paused")


async def resume(
    connection: psycopg.AsyncConnection[Any],
    replay_id: int,
    operation: Operation,
    messages_per_second: float | None = None,
) -> Replay:
    """Let a paused replay be run again, perhaps at another rate; InvalidInput if not paused."""
    return await _change(
        connection, replay_id, operation, ("paused",), "running", messages_per_second
    )


async def cancel(
    connection: psycopg.AsyncConnection[Any], replay_id: int, operation: Operation
) -> Replay:
    """End a running or paused replay for good; what was sent stays, and is harmless.

    Raises InvalidInput where it has ended already.
    """
    return await _change(connection, replay_id, operation, ("running", "paused"), "cancelled")


async def _change(
    connection: psycopg.AsyncConnection[Any],
    replay_id: int,
    operation: Operation,
    before: tuple[str, ...],
    after: str,
    rate: float | None = None,
) -> Replay:
    """Change the status to `after` where it is one of `before`, and record the operation."""
    values = {"id": replay_id, "of": list(before), "to": after, "rate": rate}
    async with connection.transaction():
        changed = await _fetch_all(connection, SQL["change"], values)
        if not changed:
            found = await find(connection, replay_id)
            raise InvalidInput(
                "replay", "status", f"must be {' or '.join(before)}; it is {found.status}"
            )
        await _record_operation(connection, operation, changed[0])
    return changed[0]


async def _record_operation(
    connection: psycopg.AsyncConnection[Any], operation: Operation, replay: Replay
) -> None:
    values = asdict(replay)
    names = ("id", "consumer", "position", "messages_per_second", "selected", "sent", "refused")
    operation.details.update({name: values[name] for name in names})
    operation.details["selection"] = asdict(replay.selection)
    await operation.record(connection)


async def _fetch_one(
    connection: psycopg.AsyncConnection[Any], statement: bytes, values: dict[str, Any]
) -> Replay:
    (row,) = await _fetch_all(connection, statement, values)
    return row


async def _fetch_all(
    connection: psycopg.AsyncConnection[Any], statement: bytes, values: dict[str, Any]
) -> list[Replay]:
    async with connection.cursor(row_factory=class_row(Replay)) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchall()
