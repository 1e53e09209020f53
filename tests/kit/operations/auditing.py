"""Audits as tests run them, and the right history that a real relay has left for them."""

from typing import Any

import psycopg

from consumers.settings import Settings
from outbox.audit.audit import Audit, audit
from outbox.audit.findings import AuditFinding, FindingKind
from outbox.audit.scope import Range
from outbox.kafka import Partition
from outbox.postgres.connection import connect
from tests.kit.load.relaying import relay_all
from tests.kit.operations.planted_rows import Message, write

MESSAGES = 40
KEYS = 7


async def run_audit(settings: Settings, asked: Range | None = None) -> Audit:
    """Audit all messages, or the range, over a connection of its own."""
    async with await connect(settings) as connection:
        return await audit(connection, settings, asked)


async def leave_right_history(
    settings: Settings, postgres: psycopg.AsyncConnection[Any]
) -> list[Message]:
    """Have a real relay publish MESSAGES messages of KEYS keys, a few a page; return them.

    AssertionError where an audit finds anything in it.
    """
    written = [await write(postgres, f"k{number % KEYS}") for number in range(MESSAGES)]
    await relay_all(settings.model_copy(update={"page_messages": 11}), postgres)
    found = await run_audit(settings)
    assert found.right
    assert found.findings == []
    return written


def only_finding(found: Audit, kind: FindingKind, why: str) -> AuditFinding:
    """Return the one finding that there is; AssertionError unless it is of this kind and reason."""
    assert [(each.kind, each.why) for each in found.findings] == [(kind, why)]
    for name in FindingKind:
        assert getattr(found.counts, name) == (name is kind)
    assert found.right is (kind is FindingKind.DOUBLED)
    return found.findings[0]


def where(finding: AuditFinding) -> tuple[Partition, int | None]:
    """The partition and the offset of what was found."""
    assert finding.partition is not None
    return (finding.topic, finding.partition), finding.offset
