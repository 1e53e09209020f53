"""FA4: what a text of statements does to a transaction, and to the messages collected in it."""

import pytest

from outbox.write.savepoints import Savepoints, ends_transaction, split_statements


@pytest.mark.parametrize(
    "text",
    [
        b"COMMIT",
        b"commit work",
        b" \n End",
        b";COMMIT",
        b"SELECT 1; COMMIT",
        b"SELECT ';'; ROLLBACK",
        b"SELECT $x$;$x$; ABORT",
        b"-- a word\n/* and /* some */ more */ COMMIT",
        b"SELECT E'it\\'s;'; PREPARE TRANSACTION 'x'",
    ],
)
def test_a_text_that_ends_the_transaction_is_known(text: bytes) -> None:
    assert any(map(ends_transaction, split_statements(text)))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"SELECT 'a; COMMIT'",
        b'SELECT 1 AS "a; COMMIT"',
        b"SELECT E'it\\'s; COMMIT'",
        b"DO $$ BEGIN PERFORM 1; END $$",
        b"DO $do$ BEGIN PERFORM '$$'; END $do$; SELECT 1",
        b"SELECT 1 -- ; COMMIT",
        b"/* ; COMMIT */ SELECT 1",
        b"ROLLBACK TO s",
        b"rollback work to savepoint s",
        b"SELECT 1 AS commit",
        b"ENDLESS",
    ],
)
def test_any_other_text_is_let_through(text: bytes) -> None:
    assert not any(map(ends_transaction, split_statements(text)))


def messages_after(*steps: str) -> list[str]:
    """Return the messages that are left; a step is a statement, or `say x` for a message."""
    messages: list[str] = []
    savepoints = Savepoints(messages)
    for step in steps:
        if step.startswith("say "):
            messages.append(step[4:])
        else:
            for statement in split_statements(step.encode()):
                savepoints.follow(statement)
    return messages


def test_what_was_said_since_a_savepoint_goes_with_it() -> None:
    assert messages_after("say a", "SAVEPOINT s", "say b", "ROLLBACK TO s", "say c") == ["a", "c"]


def test_the_latest_of_a_name_counts_as_in_postgresql() -> None:
    steps = ("SAVEPOINT s", "say a", "savepoint S", "say b", 'ROLLBACK TO SAVEPOINT "s"')
    assert messages_after(*steps) == ["a"]
    assert messages_after(*steps, "RELEASE s", "ROLLBACK TO s") == []


def test_what_is_released_stays_said_unless_an_outer_one_is_undone() -> None:
    steps = ("SAVEPOINT o", "SAVEPOINT i", "say a", "RELEASE SAVEPOINT i")
    assert messages_after(*steps) == ["a"]
    assert messages_after(*steps, "ROLLBACK TO o") == []


def test_several_statements_in_one_text_are_followed() -> None:
    assert messages_after("SELECT 1; SAVEPOINT s", "say a", "ROLLBACK TO s; RELEASE s") == []
