"""CommandReaction: brings commands from Kafka to the service handlers that HTTP reaches too."""

from collections.abc import Sequence

from schemas.envelope import Envelope
from services.dispatcher import Dispatcher


class CommandReaction:
    """Hands each command of a service to its dispatcher; receipts make redelivery harmless.

    A command that is broken or refused is answered with an event, so it parks no key. Only a record
    without a readable envelope, which cannot be answered, becomes a dead letter.
    """

    batch_messages = 1
    parks_keys = False

    def __init__(self, service: str, dispatcher: Dispatcher) -> None:
        self.name = f"{service}-commands"
        self.topics: tuple[str, ...] = (f"{service}.commands",)
        self._dispatcher = dispatcher

    async def prepare(self) -> None:
        """Do nothing: the database is first asked by a command."""

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            await self._dispatcher.dispatch(envelope)
