"""Operations: what a person did to repair something, and why, in the transaction that does it."""

from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg

from outbox.errors import build_rejection

RECORD = """
INSERT INTO outbox.operations (operator, action, subject, reason, details)
VALUES (%(operator)s, %(action)s, %(subject)s, %(reason)s, %(details)s::jsonb)
"""
MAX_REASON_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class Operation:
    """`action` is the command's name (`parked release`); `subject` is what it was done to."""

    operator: str
    action: str
    subject: str
    reason: str
    details: dict[str, Any] = field(default_factory=dict)

    async def record(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Insert it; MessageRejected where the reason is empty or too long."""
        self.require_reason()
        await connection.execute(RECORD, self._parameters())

    def require_reason(self) -> None:
        """The same, before anything is done at all."""
        if not 1 <= len(self.reason.strip()) <= MAX_REASON_CHARACTERS:
            rule = f"1 to {MAX_REASON_CHARACTERS} characters that say why"
            raise build_rejection("operation", "reason", rule)

    def _parameters(self) -> dict[str, Any]:
        return {
            "operator": self.operator,
            "action": self.action,
            "subject": self.subject,
            "reason": self.reason.strip(),
            "details": orjson.dumps(self.details).decode(),
        }
