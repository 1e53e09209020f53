"""From a command to its handler: the same way in for HTTP and for Kafka."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from outbox.errors import AlreadyHandled, MessageRejected, build_rejection
from outbox.runtime.failpoints import Failpoint, failpoint
from outbox.write.database import Database
from schemas.envelope import Command, Envelope, Message
from schemas.registry import REGISTRY
from schemas.reply import BrokenRule, CommandRejected, CommandSucceeded

log = structlog.get_logger()

# Refusals that another delivery of the same command may not meet: they are answered, and leave no
# receipt. Such a command may so be refused first and done later.
PASSING = frozenset({"search-unavailable"})

Reply = dict[str, Any]
Handler = Callable[[Any, Any, Envelope], Awaitable[CommandSucceeded]]


@dataclass(frozen=True)
class Dispatcher:
    """Runs the one handler of a command, once for each command id, and answers it.

    `context` is what the service's handlers need; `rejection` is the service's own answer to what
    it refuses.
    """

    database: Database
    context: Any
    handlers: Mapping[type[Command], Handler]
    rejection: type[CommandRejected]

    async def dispatch(self, envelope: Envelope) -> Reply:
        """The reply: the same at every delivery of this command, with `type` beside its fields.

        A broken or refused command is answered with a rejection, which is recorded like any other
        reply, but for the reasons in PASSING: those hold only for the moment. Raises
        DependencyDown, and what a handler did not expect.
        """
        try:
            message = REGISTRY.parse(envelope)
        except MessageRejected as refusal:
            return await self._reject(envelope, refusal)
        # White space is not another payload; and a command that names no subject is about its own.
        key = envelope.key if envelope.names_subject else message.key()
        cause = replace(envelope, payload=message.payload(), key=key)
        try:
            return await self._handle(cause, message)
        except AlreadyHandled as again:
            return again.reply or {}
        except MessageRejected as refusal:
            return await self._reject(cause, refusal)

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
        return _document(reply)

    async def _reject(self, envelope: Envelope, refusal: MessageRejected) -> Reply:
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
        except MessageRejected as reused:  # the id belongs to a command that was in order
            return await self._reject(envelope, reused)
        return _document(reply)

    async def _record(
        self, envelope: Envelope, refusal: MessageRejected, reply: CommandRejected
    ) -> None:
        """The receipt and the answer. A reused id keeps its first receipt; this one is apart."""
        if refusal.reason == "id-reused":
            envelope = replace(envelope, id=f"{envelope.id}#{envelope.type}#{envelope.digest}")
        once = refusal.reason not in PASSING
        async with self.database.unit_of_work("reject_command", envelope, once=once) as uow:
            await uow.commit(reply)


def _document(reply: CommandSucceeded | CommandRejected) -> Reply:
    return {"type": reply.type, **reply.model_dump(mode="json")}
