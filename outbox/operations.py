"""Operations: the record of what an operator did to repair something, and why.

It is written in the same transaction as the repair itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg

from outbox.errors import InvalidInput

RECORD = """
INSERT INTO outbox.operations (operator, action, subject, reason, details)
VALUES (%(operator)s, %(action)s, %(subject)s, %(reason)s, %(details)s::jsonb)
"""
MAX_REASON_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class Operation:
    """One repair by an operator.

    `action` is the command's name (`parked release`), `subject` is what it was done to, `reason` is
    the operator's own text, and `details` is JSON that the command adds.
    """

    operator: str
    action: str
    subject: str
    reason: str
    details: dict[str, Any] = field(default_factory=dict)

    async def record(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Insert it in the open transaction; raise InvalidInput for an empty or long reason."""
        self.require_reason()
        await connection.execute(RECORD, self._build_parameters())

    def require_reason(self) -> None:
        """Raise InvalidInput unless the reason has 1 to MAX_REASON_CHARACTERS characters.

        A command calls it before it does anything.
        """
        if not 1 <= len(self.reason.strip()) <= MAX_REASON_CHARACTERS:
            rule = f"1 to {MAX_REASON_CHARACTERS} characters that say why"
            raise InvalidInput("operation", "reason", rule)

    def _build_parameters(self) -> dict[str, Any]:
        return {
            "operator": self.operator,
            "action": self.action,
            "subject": self.subject,
            "reason": self.reason.strip(),
            "details": orjson.dumps(self.details).decode(),
        }


def describe_given(selection: Mapping[str, object]) -> str:
    """Return a selection as the subject of an operation: `key=a topic=b`, or `all`.

    The values that are None are left out.
    """
    given = [f"{name}={value}" for name, value in selection.items() if value is not None]
    return " ".join(given) or "all"
