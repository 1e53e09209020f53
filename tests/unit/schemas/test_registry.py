"""The registry: from a type and bytes to a message in its newest version, or a refusal."""

from typing import ClassVar

import pytest
from pydantic import BaseModel

from schemas.catalog import MESSAGES, CreateCatalog, ItemRemoved
from schemas.envelope import Envelope, Event
from schemas.errors import MessageRejected
from schemas.registry import REGISTRY, SHOWN_VIOLATIONS, Registry, parse_as


class Moved(Event):
    type: ClassVar[str] = "test.moved.v1"
    topic: ClassVar[str] = "test.events"
    aggregate: ClassVar[str] = "test.thing"

    place: str

    def key(self) -> str:
        return self.place


class MovedAgain(Moved):
    type: ClassVar[str] = "test.moved.v2"

    floor: int


class MovedForGood(MovedAgain):
    type: ClassVar[str] = "test.moved.v3"

    reason: str


def envelope(type_name: str, payload: bytes | None) -> Envelope:
    return Envelope(id="1", source="/test", type=type_name, key="k", payload=payload)


def refusal(type_name: str, payload: bytes | None) -> MessageRejected:
    with pytest.raises(MessageRejected) as caught:
        REGISTRY.parse(envelope(type_name, payload))
    return caught.value


def test_the_registry_knows_every_message_of_the_catalog() -> None:
    assert list(REGISTRY) == list(MESSAGES)
    assert all(cls.type in REGISTRY for cls in MESSAGES)
    assert "catalog.item-upserted.v2" not in REGISTRY


def test_every_type_names_its_service_and_its_major_version() -> None:
    for cls in REGISTRY:
        service, _, version = cls.type.split(".")
        assert service == cls.topic.split(".", maxsplit=1)[0]
        assert version.removeprefix("v").isdigit()


def test_a_type_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        Registry([Moved, MovedAgain, Moved])


def test_an_unknown_type_is_refused_without_its_name() -> None:
    error = refusal("no.such-type.v1", b"{}")
    assert error.reason == "unknown-type"
    assert [v.field for v in error.violations] == ["type"]
    assert "no.such-type" not in str(error)


@pytest.mark.parametrize("payload", [None, b"", b"null", b"[]", b"1", b'"text"'])
def test_a_payload_that_is_no_object_is_refused(payload: bytes | None) -> None:
    error = refusal(ItemRemoved.type, payload)
    assert error.reason == "schema"
    assert [v.field for v in error.violations] == ["body"]


def test_an_unknown_field_of_a_command_is_refused_and_of_an_event_is_ignored() -> None:
    error = refusal(CreateCatalog.type, b'{"catalog_id": "c", "name": "n", "colour": "red"}')
    assert [v.field for v in error.violations] == ["colour"]
    newer = b'{"catalog_id": "c", "item_id": "i", "colour": "red"}'
    assert REGISTRY.parse(envelope(ItemRemoved.type, newer)) == ItemRemoved(
        catalog_id="c", item_id="i"
    )


def test_what_no_door_accepts_is_refused_before_the_schema_is_asked() -> None:
    assert refusal(CreateCatalog.type, b'{"catalog_id": NaN}').reason == "json"
    assert refusal(CreateCatalog.type, b"{}".ljust(1 << 21)).reason == "too-large"


def test_a_refusal_names_each_field_and_never_the_value() -> None:
    error = refusal(CreateCatalog.type, b'{"catalog_id": "hunter2 is bad", "name": 7411}')
    assert [v.field for v in error.violations] == ["catalog_id", "name"]
    assert "hunter2" not in str(error)
    assert "7411" not in str(error)


def test_a_refusal_lists_a_bounded_number_of_violations() -> None:
    class Wide(BaseModel):
        numbers: list[int]

    with pytest.raises(MessageRejected) as caught:
        parse_as(Wide, b'{"numbers": [' + b'"x",' * 500 + b'"x"]}')
    assert len(caught.value.violations) == SHOWN_VIOLATIONS


def test_a_field_is_named_without_control_characters() -> None:
    error = refusal(CreateCatalog.type, b'{"catalog_id": "c", "name": "n", "x\\nforged": 1}')
    assert str(error).isprintable()


def test_an_old_version_is_lifted_step_by_step_to_the_newest() -> None:
    registry = Registry([Moved, MovedAgain, MovedForGood])
    registry.add_upcaster(Moved, lambda old: MovedAgain(place=old.place, floor=0))
    registry.add_upcaster(
        MovedAgain, lambda old: MovedForGood(place=old.place, floor=old.floor, reason="unknown")
    )
    newest = MovedForGood(place="here", floor=0, reason="unknown")
    assert registry.parse(envelope(Moved.type, b'{"place": "here"}')) == newest
    assert registry.parse(envelope(MovedAgain.type, b'{"place": "here", "floor": 0}')) == newest
    assert registry.parse(envelope(MovedForGood.type, newest.payload())) == newest


def test_an_old_version_is_checked_against_its_own_schema() -> None:
    registry = Registry([Moved, MovedAgain])
    registry.add_upcaster(Moved, lambda old: MovedAgain(place=old.place, floor=0))
    with pytest.raises(MessageRejected):
        registry.parse(envelope(Moved.type, b'{"floor": 1}'))
