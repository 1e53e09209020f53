"""Dead letters: which are due, in what order, and what a person does about them; C12, I12."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from consumers.cli.dead_letters import app
from consumers.dead_letters.listing import LetterSelection, count_letters, list_letters, read_letter
from consumers.dead_letters.repair import discard, prune, retry
from consumers.dead_letters.store import DeadLetter, DeadLetters
from consumers.settings import Settings
from outbox.errors import SchemaBehind
from outbox.operations import Operation
from outbox.runtime import logs
from tests.kit.consumers.letters import PARTITIONS, due, letter, statuses, write
from tests.kit.load.role import environment

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]


def because(action: str) -> Operation:
    return Operation("tester", action, "test", "tested")


@pytest.fixture
def kafka_url() -> str:
    """None: nothing here asks Kafka."""
    return "127.0.0.1:1"


@pytest.fixture
async def letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    async with DeadLetters(settings, "one") as letters:
        yield letters


async def offsets_due(letters: DeadLetters) -> list[int]:
    return [each.record.offset for each in await due(letters)]


async def retry_all(postgres: Connection, **selected: Any) -> list[int]:
    return await retry(postgres, LetterSelection(**selected), because("dead-letters retry"))


async def discard_all(postgres: Connection, **selected: Any) -> list[int]:
    return await discard(postgres, LetterSelection(**selected), because("dead-letters discard"))


async def test_nothing_of_a_key_is_due_while_its_first_open_letter_is_dead(
    letters: DeadLetters, postgres: Connection
) -> None:
    await write(letters, letter(1), letter(2, waiting=True), letter(3, "other"))
    assert await due(letters) == []
    await retry_all(postgres, key="k")
    first, second = await due(letters)
    assert (first.record, second.record) == (letter(1).record, letter(2).record)
    assert await letters.read_parked() == {letter(1).stream, letter(3, "other").stream}


async def test_what_waits_is_due_up_to_the_next_dead_letter(
    letters: DeadLetters, postgres: Connection
) -> None:
    """In the order of the offsets, whatever the order in which they were written."""
    await write(
        letters,
        letter(5, waiting=True),
        letter(4),
        letter(2, waiting=True),
        letter(3, waiting=True),
        letter(1),
    )
    (first,) = (await list_letters(postgres))[-1:]
    await discard_all(postgres, ids=[first.id])
    assert await offsets_due(letters) == [2, 3]
    await retry_all(postgres)
    assert await offsets_due(letters) == [2, 3, 4, 5]


async def test_a_letter_that_was_redone_unparks_its_key_only_as_the_last_one(
    letters: DeadLetters, postgres: Connection
) -> None:
    await write(letters, letter(1), letter(2, waiting=True))
    await retry_all(postgres)
    first, second = await due(letters)
    assert not await letters.mark_applied(first)
    await write(letters, letter(3, waiting=True))  # a live one, which still waits
    assert not await letters.mark_applied(second)
    (third,) = await due(letters)
    assert await letters.mark_applied(third)
    assert await letters.read_parked() == set()
    assert await statuses(postgres) == {1: "applied", 2: "applied", 3: "applied"}


async def test_a_letter_that_fails_again_is_dead_again_with_its_attempts_counted_on(
    letters: DeadLetters, postgres: Connection
) -> None:
    await write(letters, letter(1), letter(2, waiting=True))
    await retry_all(postgres)
    (first, _) = await due(letters)
    await letters.mark_failed(first, letter(1, reason="surprise", error="again", attempts=3))
    assert await due(letters) == []
    dead, waiting = await list_letters(postgres)
    assert (dead.status, dead.reason, dead.error, dead.attempts) == ("dead", "surprise", "again", 4)
    assert waiting.status == "waiting"


async def test_of_two_members_that_redo_a_letter_the_first_one_counts(
    letters: DeadLetters, postgres: Connection
) -> None:
    await write(letters, letter(1))
    await retry_all(postgres)
    ((mine,), (theirs,)) = await due(letters), await due(letters)
    await letters.mark_failed(mine, letter(1))
    assert not await letters.mark_applied(theirs)
    assert await statuses(postgres) == {1: "dead"}
    await retry_all(postgres)
    assert await letters.mark_applied(mine)
    await letters.mark_failed(theirs, letter(1))
    assert await statuses(postgres) == {1: "applied"}


async def test_only_letters_of_the_asked_partitions_and_consumer_are_due(
    settings: Settings, letters: DeadLetters, postgres: Connection
) -> None:
    await write(letters, letter(1), letter(2, None))
    await retry_all(postgres)
    assert len(await letters.due(PARTITIONS[:1])) == 2
    assert await letters.due(PARTITIONS[1:]) == []
    assert await letters.due([]) == []
    async with DeadLetters(settings, "two") as others:
        assert await due(others) == []


async def test_letters_without_a_key_wait_for_nobody(
    letters: DeadLetters, postgres: Connection
) -> None:
    await write(letters, letter(1, None), letter(2, None))
    (_, second) = await list_letters(postgres)
    await retry_all(postgres, ids=[second.id])
    (retried,) = await due(letters)
    assert (retried.stream, retried.record.offset) == (None, 2)
    assert await letters.mark_applied(retried)


async def test_what_is_due_at_once_is_bounded_in_messages_and_bytes(
    settings: Settings, letters: DeadLetters, postgres: Connection
) -> None:
    waiting = [letter(n, waiting=True) for n in range(2, 10)]
    await write(letters, letter(1), *waiting, letter(20, "other"))
    await retry_all(postgres)
    async with DeadLetters(settings.model_copy(update={"retry_messages": 3}), "one") as few:
        assert await offsets_due(few) == [1, 2, 3]
    async with DeadLetters(settings.model_copy(update={"retry_bytes": 20}), "one") as small:
        assert await offsets_due(small) == [1, 2]


async def test_a_letter_that_was_applied_is_opened_when_its_message_fails_at_another_delivery(
    letters: DeadLetters, postgres: Connection
) -> None:
    """I12: after a rebuild, say. A discarded one stays so, and so does an open one."""
    await write(letters, letter(1), letter(2, waiting=True), letter(3, "other"))
    await discard_all(postgres, key="other")
    await retry_all(postgres, key="k")
    for each in await due(letters):
        await letters.mark_applied(each)
    await write(letters, letter(1), letter(2, waiting=True), letter(3, "other"))
    assert await statuses(postgres) == {1: "dead", 2: "waiting", 3: "discarded"}
    await write(letters, letter(1), letter(2))
    assert [each.attempts for each in await list_letters(postgres)] == [2, 0]
    assert await statuses(postgres) == {1: "dead", 2: "waiting", 3: "discarded"}


async def test_another_message_at_the_offset_of_a_discarded_one_is_not_taken_for_it(
    letters: DeadLetters, postgres: Connection
) -> None:
    """The topic was deleted and made anew."""
    await write(letters, letter(1))
    await discard_all(postgres)
    other = letter(1, "other")
    await write(letters, replace(other, record=other.record._replace(value=b"{}")))
    (opened,) = await list_letters(postgres)
    assert (opened.stream, opened.status, opened.attempts) == (other.stream, "dead", 1)


async def test_text_that_postgresql_does_not_take_is_written_as_escapes(
    letters: DeadLetters, postgres: Connection
) -> None:
    await write(letters, letter(1, "k\x00", error="\ud800 and \x00"))
    (written,) = await list_letters(postgres)
    assert written.error == "\\ud800 and \\0"
    assert (await read_letter(postgres, written.id)).letter.key == b"k\x00"


async def test_a_database_without_the_migration_is_named_as_such(
    letters: DeadLetters, postgres: Connection
) -> None:
    assert await due(letters) == []
    await postgres.execute("ALTER TABLE outbox.dead_letters DROP COLUMN timestamp_milliseconds")
    with pytest.raises(SchemaBehind, match="services migrate"):
        await due(letters)


async def test_the_letters_of_a_consumer_are_countable(
    letters: DeadLetters, postgres: Connection
) -> None:
    """I12: what was not applied is dead, retrying, or waits; the rest is history."""
    await write(letters, *(letter(n, f"k{n}") for n in range(4)), letter(9, "k3", waiting=True))
    await discard_all(postgres, key="k0")
    await retry_all(postgres, key="k1")
    found = {each.status: each.letters for each in await count_letters(postgres)}
    assert found == {"dead": 2, "discarded": 1, "retrying": 1, "waiting": 1}


async def test_only_letters_that_were_closed_long_ago_are_pruned(
    letters: DeadLetters, postgres: Connection
) -> None:
    await write(letters, letter(1, "a"), letter(2, "b"), letter(3, "c"))
    await discard_all(postgres, key="a")
    await discard_all(postgres, key="b")
    await postgres.execute(
        "UPDATE outbox.dead_letters SET created_at = now() - interval '1 year',"
        " closed_at = CASE WHEN \"offset\" = 1 THEN now() - interval '40 days' ELSE closed_at END"
    )
    operation = because("dead-letters prune")
    assert await prune(postgres, 30, operation, dry_run=True) == 1
    assert await prune(postgres, 30, operation) == 1
    assert await statuses(postgres) == {2: "discarded", 3: "dead"}


# The command line.


def run(settings: Settings, *arguments: str, code: int = 0) -> Any:
    try:
        told = CliRunner().invoke(app, [*arguments], env=environment(settings))
    finally:
        logs.configure("console", "error")  # no longer to what the runner captured
    assert told.exit_code == code, told.output
    return json.loads(told.stdout) if "--json" in arguments and code == 0 else told.output


@pytest.fixture
def five(settings: Settings) -> None:
    """Of consumer one, and its key k, three; of key j one; and one of consumer two."""
    key_k = (letter(1), letter(2, waiting=True), letter(3, waiting=True))
    asyncio.run(write_of("one", settings, *key_k, letter(4, "j", reason="too-large")))
    asyncio.run(write_of("two", settings, letter(4, "j")))


async def write_of(consumer: str, settings: Settings, *several: DeadLetter) -> None:
    async with DeadLetters(settings, consumer) as letters:
        await write(letters, *several)


@pytest.mark.usefixtures("five")
def test_letters_are_listed_by_filter_and_page(settings: Settings) -> None:
    def found(*options: str) -> list[tuple[str, int]]:
        told = run(settings, "list", *options, "--json")
        return [(each["consumer"], each["offset"]) for each in told]

    assert found() == [("one", 1), ("one", 2), ("one", 3), ("one", 4), ("two", 4)]
    assert run(settings, "--json") == run(settings, "list", "--json")
    assert found("--consumer", "two") == [("two", 4)]
    assert found("--key", "j") == [("one", 4), ("two", 4)]
    assert found("--letter-reason", "too-large") == [("one", 4)]
    assert found("--topic", "other") == []
    assert found("--status", "dead", "--consumer", "one") == [("one", 1), ("one", 4)]
    assert found("--status", "applied", "--status", "discarded") == []
    page = run(settings, "list", "--limit", "2", "--json")
    assert found("--limit", "2", "--after", str(page[-1]["id"])) == [("one", 3), ("one", 4)]
    assert found("--id", str(page[0]["id"]), "--id", str(page[1]["id"])) == [("one", 1), ("one", 2)]
    assert "schema" in run(settings, "list")


@pytest.mark.usefixtures("five")
def test_a_letter_is_shown_with_its_bytes_and_what_is_around_it(settings: Settings) -> None:
    ids = [each["id"] for each in run(settings, "list", "--key", "k", "--json")]
    shown = run(settings, "show", str(ids[1]), "--json")
    assert shown["key"] == {"text": "k"}
    assert shown["value"] == {"text": '{"offset":2}'}
    assert shown["headers"] == [{"name": "ce_id", "base64": "/w=="}]
    assert (shown["before"], shown["behind"]) == (ids[:1], ids[2:])
    assert (shown["before_letters"], shown["behind_letters"]) == (1, 1)
    assert "name: missing" in run(settings, "show", str(ids[0]))
    assert "there is no 999" in run(settings, "show", "999", code=2)


@pytest.mark.usefixtures("five")
def test_letters_are_retried_and_discarded_with_a_reason_and_a_preview(
    settings: Settings, postgres_url: str
) -> None:
    """Audited, and everything only where it is said in so many words."""
    act = ("--reason", "repaired", "--json")
    run(settings, "retry", *act, code=2)
    run(settings, "discard", *act, code=2)
    run(settings, "retry", "--all", "--json", code=2)
    preview = run(settings, "retry", *act, "--key", "k", "--dry-run")
    assert preview == {"letters": 1, "waiting": 2, "dry_run": True}
    assert run(settings, "list", "--status", "retrying", "--json") == []
    at_once = (*act, "--wait-seconds", "0")
    assert run(settings, "retry", *at_once, "--key", "k")["letters"] == 1
    assert run(settings, "retry", *at_once, "--key", "k")["letters"] == 0, "it is being retried"
    assert run(settings, "discard", *act, "--letter-reason", "too-large")["letters"] == 1
    assert run(settings, "discard", *act, "--all") == {
        "letters": 1, "waiting": 0, "dry_run": False,
    }  # fmt: skip
    (retrying,) = run(settings, "list", "--status", "retrying", "--json")
    (done,) = run(settings, "show", str(retrying["id"]), "--json")["operations"]
    assert (done["action"], done["reason"]) == ("dead-letters retry", "repaired")
    with psycopg.connect(postgres_url) as connection:
        last = "SELECT action, subject, details FROM outbox.operations ORDER BY id"
        recorded = connection.execute(last).fetchall()
    assert [row[:2] for row in recorded] == [
        ("dead-letters retry", "key=k"),
        ("dead-letters retry", "key=k"),
        ("dead-letters discard", "letter_reason=too-large"),
        ("dead-letters discard", "all"),
    ]
    assert recorded[0][2] == {"letters": [retrying["id"]]}
    assert "reason" in run(settings, "retry", "--reason", " ", "--all", code=2)
    assert "0 letters would be touched" in run(
        settings, "retry", "--reason", "r", "--all", "--dry-run"
    )


@pytest.mark.usefixtures("five")
def test_letters_are_counted_and_pruned(settings: Settings) -> None:
    counts = run(settings, "count", "--json")
    found = [(each["consumer"], each["status"], each["letters"]) for each in counts]
    assert found == [("one", "dead", 2), ("one", "waiting", 2), ("two", "dead", 1)]
    assert "waiting" in run(settings, "count")
    pruned = run(settings, "prune", "--reason", "old", "--older-than-days", "1", "--json")
    assert pruned == {"letters": 0, "dry_run": False}
