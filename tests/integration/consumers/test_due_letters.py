"""Which dead letters are due, and in what order; C12, I12."""

from typing import Any

import psycopg
import pytest

from consumers.dead_letters.listing import list_letters
from consumers.dead_letters.store import DeadLetters
from consumers.settings import Settings
from outbox.errors import SchemaBehind
from tests.kit.consumers.letters import (
    PARTITIONS,
    discard_all,
    due,
    letter,
    retry_all,
    write,
)
from tests.kit.consumers.letters import no_kafka as no_kafka

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection[Any]


async def offsets_due(letters: DeadLetters) -> list[int]:
    return [each.record.offset for each in await due(letters)]


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
    """They are due in the order of their offsets, in whatever order they were written."""
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


async def test_a_database_without_the_migration_is_named_as_such(
    letters: DeadLetters, postgres: Connection
) -> None:
    assert await due(letters) == []
    await postgres.execute("DROP VIEW outbox.open_letters")
    with pytest.raises(SchemaBehind, match="services migrate"):
        await due(letters)
