"""HTTP commands: gives a command that came over HTTP its envelope, and dispatches it."""

from uuid import NAMESPACE_URL, uuid4, uuid5

from outbox.errors import MessageRejected
from schemas import strict_json
from schemas.envelope import Command, Envelope
from services.dispatcher import Dispatcher, Reply
from services.trace import current_trace


async def dispatch_over_http(
    dispatcher: Dispatcher, command: Command, idempotency_key: str | None
) -> Reply:
    """The reply to a command whose body has passed web.strict_body and the route's own model.

    The same key names the same command; without a key it is a command of its own. All that strict
    JSON refuses has been refused in the body, except for the size: the command's document also
    holds what stands in the path, and the defaults, so it may be larger than its body was. Raises
    what the dispatcher raises.
    """
    envelope = _build_envelope(command, idempotency_key)
    try:
        strict_json.require_size(envelope.payload or b"")
    except MessageRejected as refusal:
        return await dispatcher.reject(envelope, refusal)
    return await dispatcher.dispatch(command, envelope)


def _build_envelope(command: Command, idempotency_key: str | None) -> Envelope:
    """The envelope of a command that came over HTTP; its id follows from the Idempotency-Key."""
    name = f"urn:aftercommit:http:{command.type}:{idempotency_key}"
    command_id = uuid5(NAMESPACE_URL, name) if idempotency_key else uuid4()
    return Envelope(
        id=str(command_id),
        source="/http",
        type=command.type,
        key=command.key(),
        payload=command.payload(),
        traceparent=current_trace().traceparent,
    )
