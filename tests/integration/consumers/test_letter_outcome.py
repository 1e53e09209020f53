"""FD4: an operator who retries a dead letter learns what became of it; its log line says where."""

import asyncio
import json
from functools import partial
from typing import Any

import psycopg
import pytest

from consumers.dead_letters.outcome import wait_for_outcome
from consumers.dead_letters.store import DeadLetters
from consumers.runner import applier
from consumers.settings import Settings
from tests.kit.captured import captured
from tests.kit.consumers.assignments import bench
from tests.kit.consumers.letters import due, letter, retry_all, run_command, write
from tests.kit.consumers.letters import no_kafka as no_kafka
from tests.kit.consumers.work_items import broken_record
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]
WITHIN_SECONDS = 30.0


async def test_the_outcome_is_waited_for_and_told(
    letters: DeadLetters, postgres: Connection
) -> None:
    """One is applied and one fails again, both while the outcome is waited for."""
    await write(letters, letter(1, "a"), letter(2, "b"))
    ids = await retry_all(postgres)
    waiting = asyncio.create_task(wait_for_outcome(postgres, ids, WITHIN_SECONDS))
    first, second = await due(letters)
    await letters.mark_applied(first)
    await letters.mark_failed(second, letter(2, "b", reason="too-large", error="still too large"))
    outcome = await waiting
    assert (outcome.applied, outcome.dead, outcome.waiting) == (1, 1, 0)
    (again,) = outcome.failed
    assert (again.id, again.reason, again.error) == (second.id, "too-large", "still too large")
    assert again.attempts == 2


async def test_who_has_no_consumer_is_told_so_once_the_time_is_up(
    letters: DeadLetters, postgres: Connection
) -> None:
    await write(letters, letter(1))
    outcome = await wait_for_outcome(postgres, await retry_all(postgres), 0.05)
    assert (outcome.applied, outcome.dead, outcome.waiting) == (0, 0, 1)


async def command(settings: Settings, seconds: float, code: int) -> dict[str, Any]:
    """The outcome in its JSON; it runs in a thread, so that a consumer can go on here."""
    options = ("--all", "--reason", "r", "--json", "--wait-seconds", str(seconds))
    ran = await asyncio.to_thread(partial(run_command, settings, "retry", *options, code=code))
    outcome: dict[str, Any] = (ran if isinstance(ran, dict) else json.loads(ran))["outcome"]
    return outcome


async def test_the_command_exits_with_what_became_of_it(
    settings: Settings, letters: DeadLetters
) -> None:
    """2 if one still waits, 1 if one is dead again, 0 if all are applied."""
    await write(letters, letter(1, "a"))
    assert (await command(settings, 0.1, 2))["waiting"] == 1
    (each,) = await due(letters)
    await letters.mark_failed(each, letter(1, "a"))

    async def is_due() -> bool:
        return bool(await due(letters))

    asked = asyncio.create_task(command(settings, WITHIN_SECONDS, 1))
    await until(is_due, WITHIN_SECONDS)
    await letters.mark_failed(each, letter(1, "a", error="again"))
    assert [one["error"] for one in (await asked)["failed"]] == ["again"]

    asked = asyncio.create_task(command(settings, WITHIN_SECONDS, 0))
    await until(is_due, WITHIN_SECONDS)
    await letters.mark_applied(each)
    assert (await asked)["applied"] == 1


async def test_a_letter_that_was_there_already_has_its_number(letters: DeadLetters) -> None:
    """Its message is delivered again, after a crash before its offset was committed."""
    first = await letters.write(letter(1))
    assert first is not None
    assert await letters.write(letter(1)) == first
    assert await letters.write(letter(2)) not in (None, first)


async def test_the_line_of_a_dead_letter_names_letter_topic_partition_offset_and_key() -> None:
    """Every control character of the key is escaped."""
    with captured(applier) as lines:
        async with bench() as made:
            made.accept(broken_record("k\x1b[31m\n\u2028".encode(), 7))
            await made.finished()
    (line,) = [each for each in lines if each["event"] == "dead letter"]
    assert (line["letter"], line["topic"], line["partition"], line["offset"]) == (
        1, made.letters.written[0].record.topic, 0, 7,
    )  # fmt: skip
    assert line["key"] == r"k\x1b[31m\n\u2028"
    assert line["consumer"] == "test"
    assert line["reason"] == made.letters.written[0].reason


def test_a_key_that_is_no_text_is_escaped() -> None:
    assert applier.format_key(b"\xff\x00k") == r"\xff\x00k"
    assert applier.format_key(None) is None
