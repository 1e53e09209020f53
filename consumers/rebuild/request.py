"""Request: what an operator asks of a rebuild, and which row of the journal it becomes."""

from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from consumers.drift.check import CheckOptions
from consumers.projections.generations import Generation, Generations
from consumers.rebuild import journal
from consumers.rebuild.journal import Phase, Rebuild
from outbox.errors import Halted
from outbox.operations import Operation

log = structlog.get_logger()

Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """What an operator asks for: `operation.action` is `rebuild` or `rollback`, of its subject.

    `options`: the options of each check. `model`: the model of the vectors; None means the live
    generation's. `keys_per_second`: how fast keys are brought over; None means without a limit.
    `allow_left`: how many keys may differ at parity, if no message of theirs can be applied. `now`:
    a rollback that switches first, and repairs afterwards.
    """

    operation: Operation
    options: CheckOptions
    model: str | None = None
    keys_per_second: float | None = None
    allow_left: int = 0
    now: bool = False


async def open_or_begin(
    connection: Connection, generations: Generations, request: RebuildRequest
) -> Rebuild:
    """The row of the open rebuild, if it is what is asked for, or of a new one.

    A rollback abandons an open rebuild whose generation is already live. Raises Halted where the
    open rebuild is another one, or where there is nothing to roll back to.
    """
    generations.require_model(request.model)
    existing = await generations.list_generations()
    live = _find_live(generations, existing)
    latest = await journal.find_latest(connection, generations.name)
    if latest is not None and latest.is_open and _goes_on(latest, request, live):
        log.info("rebuild goes on", phase=latest.phase, generation=latest.generation)
        return latest
    if request.operation.action == "rollback":
        number = _find_former(latest, existing, live)
    else:
        last = await journal.find_last_number(connection, generations.name)
        number = 1 + max(last, *(each.number for each in existing))
    if latest is not None and latest.is_open:
        await journal.enter_phase(connection, latest, Phase.ABANDONED, latest.brought)
    return await journal.begin(connection, request.operation, number, live, request.model)


def _goes_on(latest: Rebuild, request: RebuildRequest, live: int) -> bool:
    """Whether the open rebuild is what is asked for; False where a rollback is to end it."""
    if latest.action == request.operation.action and request.model in (None, latest.model):
        return True
    if request.operation.action == "rollback" and latest.generation == live:
        return False
    raise Halted(
        f"a {latest.action} into generation {latest.generation} of {latest.projection} is open: "
        "go on with it, or drop that generation"
    )


def _find_live(generations: Generations, existing: list[Generation]) -> int:
    """The number of the live generation; Halted where it is none of ours."""
    for each in existing:
        if each.live:
            return each.number
    raise Halted(
        f"{generations.name} has no live generation of ours: what readers are sent to was made by "
        "another program; send them back to one of `python -m consumers rebuild status`"
    )


def _find_former(latest: Rebuild | None, existing: list[Generation], live: int) -> int:
    """The generation that was live before the last switch; Halted where it is not there."""
    there = {each.number for each in existing if each.foreign is None}
    if latest is None or latest.generation != live or latest.former not in there:
        raise Halted("there is no former generation to go back to")
    return latest.former
