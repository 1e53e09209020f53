"""Commands: hands the commands that come over Kafka to the handlers that HTTP reaches too."""

from collections.abc import Sequence

from outbox.errors import MessageRejected
from schemas.envelope import Envelope
from schemas.registry import REGISTRY
from services.dispatcher import Dispatcher, Reply


async def dispatch_envelope(dispatcher: Dispatcher, envelope: Envelope) -> Reply:
    """Parse the command in `envelope`, dispatch it, and return the reply.

    A payload that cannot be parsed is answered by a rejection. Raises what the dispatcher raises.
    """
    try:
        message = REGISTRY.parse(envelope)
    except MessageRejected as refusal:
        return await dispatcher.reject(envelope, refusal)
    return await dispatcher.dispatch(message, envelope)


class CommandReaction:
    """Hands each command of a service to its dispatcher; receipts make redelivery harmless.

    A command that is broken or refused is answered by an event, so it parks no key. Only a record
    without a readable envelope, which nobody could answer, becomes a dead letter.
    """

    batch_messages = 1
    parks_keys = False

    def __init__(self, service: str, dispatcher: Dispatcher) -> None:
        self.name = f"{service}-commands"
        self.topics: tuple[str, ...] = (f"{service}.commands",)
        self._dispatcher = dispatcher

    async def prepare(self) -> None:
        """Do nothing: the first command opens the first connection to the database."""

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            await dispatch_envelope(self._dispatcher, envelope)
