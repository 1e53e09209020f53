"""The catalog's messages: each limit holds exactly, and each message knows its key."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalog import (
    MAX_ITEMS_PER_COMMAND,
    MESSAGES,
    CatalogCommandRejected,
    CatalogCommandSucceeded,
    CatalogCreated,
    CreateCatalog,
    Item,
    ItemRemoved,
    ItemUpserted,
    RemoveItem,
    UpsertItems,
    item_key,
)
from schemas.envelope import Event
from schemas.errors import MessageRejected, Violation
from schemas.number import RULE
from schemas.registry import parse_as
from schemas.reply import BrokenRule


def item(**fields: Any) -> bytes:
    """An item with these fields instead of good ones, as it comes over the wire."""
    return _json({"item_id": "i", "name": "n", "text": "t"} | fields)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def broken(document: bytes) -> list[str]:
    with pytest.raises(MessageRejected) as caught:
        parse_as(Item, document)
    assert caught.value.reason == "schema"
    return [violation.field.split(".")[0] for violation in caught.value.violations]


@pytest.mark.parametrize(("field", "longest"), [("name", 200), ("text", 20_000), ("item_id", 100)])
def test_text_has_one_to_so_many_characters(field: str, longest: int) -> None:
    parse_as(Item, item(**{field: "x"}))
    parse_as(Item, item(**{field: "x" * longest}))
    assert broken(item(**{field: "x" * (longest + 1)})) == [field]
    assert broken(item(**{field: ""})) == [field]


def test_characters_are_counted_not_bytes() -> None:
    assert parse_as(Item, item(name="😀" * 200)).name == "😀" * 200
    assert broken(item(name="😀" * 201)) == ["name"]


@pytest.mark.parametrize("good", ["i", "7", "JFK", "a.b_c:d-e", "0-_", "Z" * 100])
def test_an_id_of_letters_digits_and_marks_is_accepted(good: str) -> None:
    assert parse_as(Item, item(item_id=good)).item_id == good


@pytest.mark.parametrize(
    "bad",
    [
        "",
        ".",
        "-a",
        "_a",
        ":a",
        "a b",
        "a/b",
        "a\n",
        "\na",
        "é",
        "a\u200b",
        "\uff11",
        "a%2Fb",
        1,
        None,
    ],
)
def test_every_other_id_is_refused(bad: Any) -> None:
    assert broken(item(item_id=bad)) == ["item_id"]


@given(st.text(max_size=20))
def test_no_id_holds_what_a_key_is_divided_by(text: str) -> None:
    try:
        found = RemoveItem(catalog_id="c", item_id=text)
    except ValueError:
        return
    assert found.key().split("/") == ["c", text]


@pytest.mark.parametrize("value", ["", "x" * 500, True, False, 0, -1, 2.5, 1e308])
def test_an_attribute_is_text_truth_or_number(value: Any) -> None:
    assert parse_as(Item, item(attributes={"a": value})).attributes == {"a": value}


@pytest.mark.parametrize("value", ["x" * 501, None, [], {}, [1], {"a": 1}, 10**400])
def test_an_attribute_is_nothing_else(value: Any) -> None:
    assert set(broken(item(attributes={"a": value}))) == {"attributes"}


def test_truth_stays_truth_and_numbers_stay_numbers() -> None:
    attributes = parse_as(Item, item(attributes={"a": True, "b": 1, "c": "1"})).attributes
    assert [type(attributes[name]) for name in "abc"] == [bool, float, str]


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**60, 2**63 - 1, 10**25 + 1, 10**400])
def test_an_integer_that_a_float_would_change_is_refused_by_its_name(value: int) -> None:
    """FA6: 9007199254740993 would come back as …992."""
    with pytest.raises(MessageRejected) as caught:
        parse_as(Item, item(attributes={"a": value}))
    assert caught.value.violations == (Violation("attributes.a", RULE),)


@pytest.mark.parametrize("value", [2**53, -(2**53), 10**22, 0, 7])
def test_an_integer_that_a_float_holds_is_kept(value: int) -> None:
    """FA6."""
    kept = parse_as(Item, item(attributes={"a": value})).attributes["a"]
    assert isinstance(kept, float)
    assert int(kept) == value


def test_the_negative_zero_is_zero() -> None:
    """FA6: jsonb has one zero, and what is sent again must be the same as what is stored."""
    kept = parse_as(Item, item(attributes={"a": -0.0})).attributes["a"]
    assert repr(kept) == "0.0"


@pytest.mark.parametrize("name", ["a", "state", "a_1", "x" * 50])
def test_an_attribute_name_is_lower_case(name: str) -> None:
    assert parse_as(Item, item(attributes={name: 1})).attributes == {name: 1}


@pytest.mark.parametrize("name", ["", "A", "1a", "_a", "a-b", "a.b", "a b", "é", "a\n", "x" * 51])
def test_every_other_attribute_name_is_refused(name: str) -> None:
    assert set(broken(item(attributes={name: 1}))) == {"attributes"}


def test_an_item_has_at_most_fifty_attributes() -> None:
    parse_as(Item, item(attributes={f"a{n}": n for n in range(50)}))
    assert broken(item(attributes={f"a{n}": n for n in range(51)})) == ["attributes"]


def test_an_unknown_field_is_refused() -> None:
    assert broken(item(colour="red")) == ["colour"]


def upsert(items: int) -> bytes:
    one = [{"item_id": f"i{n}", "name": "n", "text": "t"} for n in range(items)]
    return _json({"catalog_id": "c", "items": one})


def test_a_command_holds_one_to_five_hundred_items() -> None:
    assert MAX_ITEMS_PER_COMMAND == 500
    assert len(parse_as(UpsertItems, upsert(1)).items) == 1
    assert len(parse_as(UpsertItems, upsert(500)).items) == 500
    for items in (0, 501):
        with pytest.raises(MessageRejected, match="items"):
            parse_as(UpsertItems, upsert(items))


@pytest.mark.parametrize("value", ["true", 1, None])
def test_require_search_is_true_or_false(value: Any) -> None:
    document = _json({"catalog_id": "c", "items": [], "require_search": value})
    with pytest.raises(MessageRejected, match="require_search"):
        parse_as(UpsertItems, document)


ONE = Item(item_id="i", name="n", text="t")
TWO = Item(item_id="j", name="n", text="t")


def test_a_message_knows_its_key() -> None:
    assert CreateCatalog(catalog_id="c", name="n").key() == "c"
    assert CatalogCreated(catalog_id="c", name="n").key() == "c"
    assert RemoveItem(catalog_id="c", item_id="i").key() == "c/i"
    assert ItemRemoved(catalog_id="c", item_id="i").key() == "c/i"
    assert ItemUpserted(catalog_id="c", item_id="i", name="n", text="t").key() == "c/i"
    assert UpsertItems(catalog_id="c", items=(ONE,)).key() == "c/i"
    assert UpsertItems(catalog_id="c", items=(ONE, TWO)).key() == "c"


def test_the_longest_key_fits_into_the_outbox() -> None:
    assert len(item_key("c" * 100, "i" * 100)) <= 255


EXAMPLES = (
    CreateCatalog(catalog_id="c", name="n"),
    UpsertItems(catalog_id="c", items=(ONE, TWO), require_search=True),
    RemoveItem(catalog_id="c", item_id="i"),
    CatalogCreated(catalog_id="c", name="n"),
    ItemUpserted(catalog_id="c", item_id="i", name="n", text="t", attributes={"a": "b", "c": 1.5}),
    ItemRemoved(catalog_id="c", item_id="i"),
    CatalogCommandSucceeded(
        command_id="1", command_type="t", subject="c", result={"created": True}
    ),
    CatalogCommandRejected(
        command_id="1",
        command_type="t",
        subject="c",
        reason="conflict",
        errors=(BrokenRule(field="name", rule="must be another"),),
    ),
)


def test_every_message_survives_its_own_payload() -> None:
    assert {type(example) for example in EXAMPLES} == set(MESSAGES)
    for example in EXAMPLES:
        assert parse_as(type(example), example.payload()) == example


def test_only_the_removal_deletes() -> None:
    assert [cls for cls in MESSAGES if issubclass(cls, Event) and cls.deletes] == [ItemRemoved]


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        EXAMPLES[0].name = "other"
