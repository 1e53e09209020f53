"""Reaction: what a consumer does with messages."""

from collections.abc import Sequence
from typing import Protocol

from schemas.envelope import Envelope


class Reaction(Protocol):
    """What a runner hands messages to. It is idempotent: each may come again, also out of turn."""

    @property
    def name(self) -> str:
        """Names the consumer group, its dead letters and its log lines."""

    @property
    def topics(self) -> tuple[str, ...]: ...

    @property
    def batch_messages(self) -> int:
        """How many messages `apply` takes at once; with 1, keys are worked on side by side."""

    @property
    def parks_keys(self) -> bool:
        """Whether later messages of a key wait behind a dead letter."""

    async def prepare(self) -> None:
        """Called once before the first message, through outages."""

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        """Apply all; raising leaves open which were applied. It may be cancelled at any await."""
