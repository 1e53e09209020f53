"""Registry: finds the class of a message type, parses the payload, and upcasts old versions."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas import catalog, strict_json
from schemas.envelope import Command, Envelope, Event, Message
from schemas.errors import MessageRejected, Violation, build_rejection

AnyMessage = type[Command] | type[Event]
Upcaster = Callable[[Any], Message]

SHOWN_VIOLATIONS = 20


class Registry:
    """The known types, each with its class, and upcasters from an old major version to the next."""

    def __init__(self, classes: Iterable[AnyMessage]) -> None:
        self._classes: dict[str, AnyMessage] = {}
        self._upcasters: dict[str, Upcaster] = {}
        for cls in classes:
            self._add(cls)

    def __iter__(self) -> Iterator[AnyMessage]:
        return iter(self._classes.values())

    def __contains__(self, type_name: str) -> bool:
        return type_name in self._classes

    def topics(self) -> list[str]:
        """Every topic that a known message goes to, sorted."""
        return sorted({cls.topic for cls in self})

    def _add(self, cls: AnyMessage) -> None:
        if cls.type in self._classes:
            raise ValueError(f"{cls.type} is registered twice")
        self._classes[cls.type] = cls

    def add_upcaster(self, old: AnyMessage, upcast: Upcaster) -> None:
        """From now on, `parse` passes each `old` message through `upcast`."""
        self._upcasters[old.type] = upcast

    def parse(self, envelope: Envelope) -> Message:
        """The message inside, in its newest version.

        Raises MessageRejected: `unknown-type`, `json`, `too-large`, or `schema`.
        """
        cls = self._classes.get(envelope.type)
        if cls is None:
            raise build_rejection("unknown-type", "type", "must be a type of the registry")
        message: Message = parse_as(cls, envelope.payload or b"null")
        while upcast := self._upcasters.get(message.type):
            message = upcast(message)
        return message


M = TypeVar("M", bound=BaseModel)


def parse_as(cls: type[M], document: bytes) -> M:
    """Parse `document` as a `cls`; MessageRejected with each field and the rule that it breaks."""
    strict_json.load(document)
    try:
        return cls.model_validate_json(document)
    except ValidationError as error:
        raise MessageRejected("schema", *list_violations(error)) from None


def list_violations(error: ValidationError) -> Iterator[Violation]:
    """What pydantic found, as field and rule, without values; at most SHOWN_VIOLATIONS."""
    for detail in error.errors(include_url=False, include_input=False)[:SHOWN_VIOLATIONS]:
        path = ".".join(strict_json.make_printable(str(part)) for part in detail["loc"]) or "body"
        yield Violation(path, detail["msg"])


REGISTRY = Registry(catalog.MESSAGES)
