"""The life of a dead letter: written, settled or dead again, counted and pruned; C12, I12."""

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from consumers.dead_letters.listing import count_letters, list_letters, read_letter
from consumers.dead_letters.repair import prune
from consumers.dead_letters.store import DeadLetters
from tests.kit.consumers.letters import (
    because,
    discard_all,
    due,
    letter,
    retry_all,
    statuses,
    write,
)
from tests.kit.consumers.letters import no_kafka as no_kafka

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]


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


async def test_a_letter_that_was_applied_is_opened_when_its_message_fails_at_another_delivery(
    letters: DeadLetters, postgres: Connection
) -> None:
    """I12: for example after a rebuild. A discarded letter stays discarded, an open one open."""
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
    """The topic was deleted and created again."""
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


async def test_the_letters_of_a_consumer_are_countable(
    letters: DeadLetters, postgres: Connection
) -> None:
    """I12: what was not applied is dead, retrying or waiting; all other letters are closed."""
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
