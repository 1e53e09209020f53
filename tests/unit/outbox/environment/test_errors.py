"""Errors: what an operator gave is told apart from a message, a store and a schema."""

import pytest

from outbox.audit.scope import Range
from outbox.errors import InvalidInput, MessageRejected, OutboxError, SchemaBehind, StoreUnfit
from outbox.operations import MAX_REASON_CHARACTERS, Operation

KINDS = (InvalidInput, StoreUnfit, SchemaBehind, MessageRejected)


@pytest.mark.parametrize("kind", KINDS)
def test_none_of_them_is_caught_as_another(kind: type[Exception]) -> None:
    assert [each for each in KINDS if issubclass(kind, each)] == [kind]


def test_all_but_a_rejected_message_are_of_the_tree() -> None:
    assert [each for each in KINDS if not issubclass(each, OutboxError)] == [MessageRejected]


def test_an_invalid_input_names_the_field_and_the_rule() -> None:
    error = InvalidInput("replay", "status", "must be running; it is done")
    assert (error.field, error.rule) == ("status", "must be running; it is done")
    assert str(error) == "replay: status: must be running; it is done"


@pytest.mark.parametrize("reason", ["", "  ", "x" * (MAX_REASON_CHARACTERS + 1)])
def test_an_operation_without_a_reason_is_invalid_input(reason: str) -> None:
    with pytest.raises(InvalidInput, match=r"^operation: reason: 1 to 1000 characters that"):
        Operation("ann", "replay start", "all", reason).require_reason()


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (
            Range(from_position=1, since="1 hours"),
            "range: range: is given by positions",
        ),
        (Range(2, 1), "range: from-position: must not be above the last one"),
    ],
)
def test_a_range_that_makes_no_sense_is_invalid_input(asked: Range, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        asked.check()
