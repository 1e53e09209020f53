"""Dead letters for tests: written as a consumer writes them, repaired as an operator does it."""

import json
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from consumers.cli.dead_letters import app
from consumers.dead_letters.listing import LetterSelection
from consumers.dead_letters.repair import discard, retry
from consumers.dead_letters.store import DeadLetter, DeadLetters, Retried
from consumers.settings import Settings
from outbox.kafka import ConsumerRecord
from outbox.operations import Operation
from outbox.runtime import logs
from tests.kit.load.role import environment

TOPIC = "catalog.item.events"
PARTITIONS = [(TOPIC, partition) for partition in range(4)]
Connection = psycopg.AsyncConnection[Any]


@pytest.fixture(name="kafka_url")
def no_kafka() -> str:
    """An address without a broker; a module that imports it needs no Kafka."""
    return "127.0.0.1:1"


def letter(
    offset: int, key: str | None = "k", *, waiting: bool = False, **changes: Any
) -> DeadLetter:
    """A letter of partition 0, dead for its schema unless it waits; without a key it parks none."""
    raw = None if key is None else key.encode()
    record = ConsumerRecord(
        TOPIC, 0, offset, raw, b'{"offset":%d}' % offset, (("ce_id", b"\xff"),), 1_000
    )
    stream = None if key is None else f"{TOPIC}/{key}"
    reason, error, attempts = ("waits", "behind", 0) if waiting else ("schema", "name: missing", 1)
    values: dict[str, Any] = {
        "reason": reason,
        "error": error,
        "attempts": attempts,
        "waiting": waiting,
    }
    return DeadLetter(record, stream, **values | changes)


async def write(letters: DeadLetters, *several: DeadLetter) -> None:
    """Write them one after the other."""
    for each in several:
        await letters.write(each)


async def due(letters: DeadLetters) -> list[Retried]:
    """What is due in all partitions that tests write to."""
    return await letters.due(PARTITIONS)


async def statuses(postgres: Connection) -> dict[int, str]:
    """The status of each letter by its offset, of all consumers together."""
    rows = await postgres.execute('SELECT "offset", status FROM outbox.dead_letters ORDER BY 1')
    return dict(await rows.fetchall())


def because(action: str) -> Operation:
    """An operation with a reason, as every repair needs one."""
    return Operation("tester", action, "test", "tested")


async def retry_all(postgres: Connection, **selected: Any) -> list[int]:
    """Retry the selected letters, all if nothing is selected; their ids."""
    return await retry(postgres, LetterSelection(**selected), because("dead-letters retry"))


async def discard_all(postgres: Connection, **selected: Any) -> list[int]:
    """Discard the selected letters, all if nothing is selected; their ids."""
    return await discard(postgres, LetterSelection(**selected), because("dead-letters discard"))


def run_command(settings: Settings, *arguments: str, code: int = 0) -> Any:
    """Run `dead-letters` and require its exit code.

    Returns the parsed JSON if `--json` is given and the code is 0, else what was printed.
    """
    try:
        ran = CliRunner().invoke(app, [*arguments], env=environment(settings))
    finally:
        logs.configure("console", "error")  # no longer to what the runner captured
    assert ran.exit_code == code, ran.output
    return json.loads(ran.stdout) if "--json" in arguments and code == 0 else ran.output
