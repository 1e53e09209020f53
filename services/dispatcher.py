"""Dispatcher: runs the handler of a command and returns the reply, for HTTP and for Kafka alike.

Whoever receives a command parses it: the routes over HTTP, and consumers/commands.py from Kafka.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from outbox.errors import AlreadyHandled, MessageRejected, build_rejection
from outbox.runtime.failpoints import Failpoint, failpoint
from outbox.write.database import Database
from schemas.envelope import Command, Envelope, Message
from schemas.reply import BrokenRule, CommandRejected, CommandSucceeded, render_reply

log = structlog.get_logger()

# Reasons that may pass: another delivery of the same command may be accepted. These refusals are
# answered, but leave no receipt, so such a command may be refused first and done later.
PASSING = frozenset({"search-unavailable"})

Reply = dict[str, Any]
Handler = Callable[[Any, Any, Envelope], Awaitable[CommandSucceeded]]


@dataclass(frozen=True)
class Dispatcher:
    """Runs the handler of a command, once for each command id, and returns its reply.

    `context` is what the service's handlers need; `rejection` is the class of the service's replies
    to commands that it refuses.
    """

    database: Database
    context: Any
    handlers: Mapping[type[Command], Handler]
    rejection: type[CommandRejected]

    async def dispatch(self, message: Message, envelope: Envelope) -> Reply:
        """Handle `message`, which came in `envelope`, and return the reply.

        The reply has `type` beside its fields, and is the same at every delivery of this command:
        it is stored in the command's receipt. The receipt has a digest of the type and the payload
        as `message` renders it, so other white space is the same command. A command that is refused
        gets a rejection; see `reject`. Raises DependencyDown, and what a handler did not expect.
        """
        # A command whose envelope names no subject is about its own key.
        key = envelope.key if envelope.names_subject else message.key()
        cause = replace(envelope, payload=message.payload(), key=key)
        try:
            return await self._handle(cause, message)
        except AlreadyHandled as again:
            return again.reply or {}
        except MessageRejected as refusal:
            return await self.reject(cause, refusal)

    async def reject(self, envelope: Envelope, refusal: MessageRejected) -> Reply:
        """Record that a command is refused, and return the rejection as its reply.

        The rejection is published, and has a receipt like any other reply, unless its reason is in
        PASSING. Where the id has a receipt already, the reply of that receipt is returned. Raises
        DependencyDown.
        """
        reply = self.rejection(
            command_id=envelope.id,
            command_type=envelope.type,
            subject=envelope.key,
            reason=refusal.reason,
            errors=tuple(BrokenRule(field=v.field, rule=v.rule) for v in refusal.violations),
        )
        log.info("command rejected", command=envelope.id, reason=refusal.reason)
        try:
            await self.database.retry_on_contention(lambda: self._record(envelope, refusal, reply))
        except AlreadyHandled as again:
            return again.reply or {}
        except MessageRejected as reused:  # the id belongs to another command
            return await self.reject(envelope, reused)
        return render_reply(reply)

    async def _handle(self, cause: Envelope, message: Message) -> Reply:
        handler = self.handlers.get(type(message)) if isinstance(message, Command) else None
        if handler is None:
            raise build_rejection("unknown-type", "type", "must be a command of this service")
        if message.key() != cause.key:
            raise build_rejection("envelope", "subject", "must be the key of the command")
        reply = await self.database.retry_on_contention(
            lambda: handler(self.context, message, cause)
        )
        failpoint(Failpoint.REPLY_READY)
        return render_reply(reply)

    async def _record(
        self, envelope: Envelope, refusal: MessageRejected, reply: CommandRejected
    ) -> None:
        """Commit the receipt and the reply.

        An id that was used before keeps its first receipt, so this refusal gets an id of its own.
        """
        if refusal.reason == "id-reused":
            envelope = replace(envelope, id=f"{envelope.id}#{envelope.type}#{envelope.digest}")
        once = refusal.reason not in PASSING
        async with self.database.unit_of_work("reject_command", envelope, once=once) as uow:
            await uow.commit(reply)
