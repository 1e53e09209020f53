"""The reply to a command: an event with the command's correlation id.

Each service derives its own two classes from these, with a type and a topic of its own.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.envelope import Event


class BrokenRule(BaseModel):
    """One reason for a refusal: which field, and the rule that it breaks."""

    model_config = ConfigDict(frozen=True)

    field: str
    rule: str


class Reply(Event):
    """What every reply names: the command, by id and type, and the key that it was about."""

    command_id: str
    command_type: str
    subject: str

    def key(self) -> str:
        return self.subject


def render_reply(reply: Event) -> dict[str, Any]:
    """The fields of a reply as plain JSON values, with its `type` beside them."""
    return {"type": reply.type, **reply.model_dump(mode="json")}


class CommandSucceeded(Reply):
    """The command's one effect is committed; `result` is the same at every delivery."""

    result: dict[str, Any] = Field(default_factory=dict)


class CommandRejected(Reply):
    """The command changed nothing; `reason` is a stable word that a program can branch on."""

    reason: str
    errors: tuple[BrokenRule, ...] = ()
