"""`python -m consumers dead-letters`: what it lists, shows, changes and records; C12, I12."""

import asyncio

import psycopg
import pytest

from consumers.dead_letters.store import DeadLetter, DeadLetters
from consumers.settings import Settings
from tests.kit.consumers.letters import letter, run_command, write
from tests.kit.consumers.letters import no_kafka as no_kafka


@pytest.fixture
def five(settings: Settings) -> None:
    """Five letters: of consumer one, three of key k and one of key j; of consumer two, one."""
    key_k = (letter(1), letter(2, waiting=True), letter(3, waiting=True))
    asyncio.run(write_of("one", settings, *key_k, letter(4, "j", reason="too-large")))
    asyncio.run(write_of("two", settings, letter(4, "j")))


async def write_of(consumer: str, settings: Settings, *several: DeadLetter) -> None:
    async with DeadLetters(settings, consumer) as letters:
        await write(letters, *several)


@pytest.mark.usefixtures("five")
def test_letters_are_listed_by_filter_and_page(settings: Settings) -> None:
    def found(*options: str) -> list[tuple[str, int]]:
        listed = run_command(settings, "list", *options, "--json")
        return [(each["consumer"], each["offset"]) for each in listed]

    assert found() == [("one", 1), ("one", 2), ("one", 3), ("one", 4), ("two", 4)]
    assert run_command(settings, "--json") == run_command(settings, "list", "--json")
    assert found("--consumer", "two") == [("two", 4)]
    assert found("--key", "j") == [("one", 4), ("two", 4)]
    assert found("--letter-reason", "too-large") == [("one", 4)]
    assert found("--topic", "other") == []
    assert found("--status", "dead", "--consumer", "one") == [("one", 1), ("one", 4)]
    assert found("--status", "applied", "--status", "discarded") == []
    page = run_command(settings, "list", "--limit", "2", "--json")
    assert found("--limit", "2", "--after", str(page[-1]["id"])) == [("one", 3), ("one", 4)]
    assert found("--id", str(page[0]["id"]), "--id", str(page[1]["id"])) == [("one", 1), ("one", 2)]
    assert "schema" in run_command(settings, "list")


@pytest.mark.usefixtures("five")
def test_a_letter_is_shown_with_its_bytes_and_what_is_around_it(settings: Settings) -> None:
    ids = [each["id"] for each in run_command(settings, "list", "--key", "k", "--json")]
    shown = run_command(settings, "show", str(ids[1]), "--json")
    assert shown["key"] == {"text": "k"}
    assert shown["value"] == {"text": '{"offset":2}'}
    assert shown["headers"] == [{"name": "ce_id", "base64": "/w=="}]
    assert (shown["before"], shown["behind"]) == (ids[:1], ids[2:])
    assert (shown["before_letters"], shown["behind_letters"]) == (1, 1)
    assert "name: missing" in run_command(settings, "show", str(ids[0]))
    assert "there is no 999" in run_command(settings, "show", "999", code=2)


@pytest.mark.usefixtures("five")
def test_letters_are_retried_and_discarded_with_a_reason_and_a_preview(
    settings: Settings, postgres_url: str
) -> None:
    """Each repair is on record, and all letters are touched only with `--all`."""
    act = ("--reason", "repaired", "--json")
    run_command(settings, "retry", *act, code=2)
    run_command(settings, "discard", *act, code=2)
    run_command(settings, "retry", "--all", "--json", code=2)
    preview = run_command(settings, "retry", *act, "--key", "k", "--dry-run")
    assert preview == {"letters": 1, "waiting": 2, "dry_run": True}
    assert run_command(settings, "list", "--status", "retrying", "--json") == []
    at_once = (*act, "--wait-seconds", "0")
    assert run_command(settings, "retry", *at_once, "--key", "k")["letters"] == 1
    assert run_command(settings, "retry", *at_once, "--key", "k")["letters"] == 0, (
        "it is being retried"
    )
    assert run_command(settings, "discard", *act, "--letter-reason", "too-large")["letters"] == 1
    assert run_command(settings, "discard", *act, "--all") == {
        "letters": 1, "waiting": 0, "dry_run": False,
    }  # fmt: skip
    (retrying,) = run_command(settings, "list", "--status", "retrying", "--json")
    (done,) = run_command(settings, "show", str(retrying["id"]), "--json")["operations"]
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
    assert "reason" in run_command(settings, "retry", "--reason", " ", "--all", code=2)
    assert "0 letters would be touched" in run_command(
        settings, "retry", "--reason", "r", "--all", "--dry-run"
    )


@pytest.mark.usefixtures("five")
def test_letters_are_counted_and_pruned(settings: Settings) -> None:
    counts = run_command(settings, "count", "--json")
    found = [(each["consumer"], each["status"], each["letters"]) for each in counts]
    assert found == [("one", "dead", 2), ("one", "waiting", 2), ("two", "dead", 1)]
    assert "waiting" in run_command(settings, "count")
    pruned = run_command(settings, "prune", "--reason", "old", "--older-than-days", "1", "--json")
    assert pruned == {"letters": 0, "dry_run": False}
