"""Reaction: the interface of whatever a consumer does with its messages."""

from collections.abc import Sequence
from typing import Protocol

from schemas.envelope import Envelope


class Reaction(Protocol):
    """What a runner hands messages to.

    A reaction must be idempotent: each message may come again, also after later ones of its key.
    """

    @property
    def name(self) -> str:
        """The name of the consumer: of its group, its dead letters and its log lines."""

    @property
    def topics(self) -> tuple[str, ...]: ...

    @property
    def batch_messages(self) -> int:
        """How many messages `apply` takes at once; with 1, several keys are worked on at a time."""

    @property
    def parks_keys(self) -> bool:
        """Whether later messages of a key wait behind a dead letter."""

    async def prepare(self) -> None:
        """Prepare the store; called before the first message, and repeated through outages."""

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        """Apply all of them. If it raises, any of them may have been applied.

        It may be cancelled at any await.
        """
