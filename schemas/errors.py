"""MessageRejected, the one error of this package: a message that no retry can make right."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: the field by its path (`items.0.name`) and the rule in words."""

    field: str
    rule: str

    def __str__(self) -> str:
        return f"{self.field}: {self.rule}"


class MessageRejected(ValueError):
    """The message itself is broken, so it is not retried: it is dead-lettered, rejected, or a 4xx.

    `reason` is a stable, machine-readable word (`unknown-type`, `schema`, `json`, `too-large`,
    `envelope`); `violations` name each field and rule. Values are never repeated: they may be
    secret, or a megabyte long.
    """

    def __init__(self, reason: str, *violations: Violation) -> None:
        self.reason = reason
        self.violations = violations
        super().__init__(f"{reason}: " + "; ".join(map(str, violations)))


def build_rejection(reason: str, field: str, rule: str) -> MessageRejected:
    """A MessageRejected with one violation."""
    return MessageRejected(reason, Violation(field, rule))
