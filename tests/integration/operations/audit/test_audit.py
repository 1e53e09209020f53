"""I12, I5: what an audit takes for right: a relay's history, and what no relay is to blame for.

The latter is planted on a right history that a real relay has left.
"""

import json

import psycopg
import pytest

from consumers.settings import Settings
from outbox.audit.findings import FindingKind
from outbox.audit.scope import AuditScope, Range, read_scope
from outbox.operations import Operation
from outbox.relay.parked_repair import ParkedSelection, discard
from tests.kit.load.relaying import relay_all
from tests.kit.operations.auditing import MESSAGES, only_finding, run_audit, where
from tests.kit.operations.command_line import run
from tests.kit.operations.planted_records import TOPIC, send
from tests.kit.operations.planted_rows import (
    Message,
    move_cursor,
    read,
    record_delivery,
    write,
    write_published,
)
from tests.kit.verdicts.history import write as write_history

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection


async def test_what_a_relay_publishes_is_right_and_reconciles(
    settings: Settings, postgres: Connection
) -> None:
    """I12: eight writers roll back, lock late and share keys; some messages are not sent yet."""
    await write_history(settings, transactions=1_600, seed=31)
    await relay_all(settings.model_copy(update={"page_messages": 100}), postgres)
    pending = [await write(postgres, "k") for _ in range(3)]
    found = await run_audit(settings)
    assert found.right
    assert found.findings == []
    counts = found.counts
    assert counts.published > 1_600
    assert counts.published == counts.in_topics == counts.read
    assert counts.pending == len(pending)
    assert counts.committed == counts.published + counts.pending
    rows = await postgres.execute("SELECT count(*) FROM outbox.messages")
    assert await rows.fetchone() == (counts.committed,)


async def test_nothing_committed_is_nothing_to_find(settings: Settings) -> None:
    found = await run_audit(settings)
    assert (found.right, found.counts.committed, found.counts.read) == (True, 0, 0)


async def test_a_faithful_copy_is_told_and_forgiven(
    settings: Settings, history: list[Message]
) -> None:
    """I5, R6: a crash of a relay may leave one."""
    again = history[3]
    offset = await send(settings, again.envelope(), again.home)
    finding = only_finding(await run_audit(settings), FindingKind.DOUBLED, "copy")
    assert (finding.position, finding.id) == (again.position, str(again.id))
    assert where(finding) == (again.home, offset)
    partition, first = finding.details["first"]
    assert partition == again.home[1]
    assert first < offset


@pytest.mark.usefixtures("history")
async def test_parked_and_discarded_messages_are_counted_and_not_missed(
    settings: Settings, postgres: Connection
) -> None:
    """I12."""
    refused, behind = await write_published(postgres, "k1", "k1")
    park = "INSERT INTO outbox.parked (aggregatetype, aggregateid, topic, position, reason)"
    await postgres.execute(
        park.encode() + b" VALUES ('test.note', 'k1', %s, %s, 'too-large')",
        [TOPIC, refused.position],
    )
    for message in (refused, behind):
        wait = "INSERT INTO outbox.parked_messages VALUES ('test.note', 'k1', %s)"
        await postgres.execute(wait, [message.position])
    found = await run_audit(settings)
    assert (found.right, found.counts.parked, found.counts.discarded) == (True, 2, 0)
    await discard(
        postgres, ParkedSelection(), Operation("tester", "parked discard", "all", "of no use")
    )
    found = await run_audit(settings)
    assert (found.right, found.counts.parked, found.counts.discarded) == (True, 1, 1)
    assert found.counts.committed == MESSAGES + 2
    assert found.counts.published == found.counts.in_topics == MESSAGES


@pytest.mark.usefixtures("history")
async def test_what_is_committed_and_sent_while_topics_are_read_is_no_finding(
    settings: Settings, postgres: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is there, but its message was not when the audit began."""
    late: list[Message] = []

    async def then_one_more(connection: Connection, asked: Range) -> AuditScope:
        scene = await read_scope(connection, asked)
        late.append(await write(postgres, "k1"))
        await relay_all(settings, postgres)
        return scene

    monkeypatch.setattr("outbox.audit.audit.read_scope", then_one_more)
    found = await run_audit(settings)
    assert (found.right, found.findings, len(late)) == (True, [], 1)
    assert (found.counts.committed, found.counts.read) == (MESSAGES, MESSAGES + 1)


async def test_a_message_sent_before_positions_were_replaced_is_a_copy(
    settings: Settings, postgres: Connection, history: list[Message]
) -> None:
    """`reconcile` replaces positions that were drawn twice: the id is what stays."""
    message = history[4]
    moved = message.position + 1_000_000
    await postgres.execute(
        "UPDATE outbox.messages SET position = %s WHERE position = %s", [moved, message.position]
    )
    again = await read(postgres, moved)
    offset = await send(settings, again.envelope(), again.home)
    await record_delivery(postgres, [again], again.home, offset)
    finding = only_finding(await run_audit(settings), FindingKind.DOUBLED, "copy")
    assert (finding.position, finding.id) == (moved, str(message.id))


@pytest.mark.usefixtures("history")
async def test_the_command_tells_and_exits_with_1_where_something_is_wrong(
    settings: Settings, postgres: Connection
) -> None:
    right = run(settings, "outbox", "audit", "--json")
    assert right.returncode == 0, right.stderr
    told = json.loads(right.stdout)
    assert (told["right"], told["counts"]["in_topics"], told["findings"]) == (True, MESSAGES, [])
    lost = [await write(postgres, "k1") for _ in range(3)]
    await move_cursor(postgres)
    wrong = run(settings, "outbox", "audit", "--json", "--limit", "2")
    assert wrong.returncode == 1, wrong.stderr
    told = json.loads(wrong.stdout)
    assert told["counts"]["lost"] == 3
    assert [each["position"] for each in told["findings"]] == [m.position for m in lost[:2]]
    shown = run(settings, "outbox", "audit", "--since", "1h", COLUMNS="300")
    assert (shown.returncode, str(lost[0].position) in shown.stdout) == (1, True)
    assert "records read" in shown.stderr
    for range_ in (["--since", "yesterday"], ["--since", "1h", "--to-position", "1"]):
        refused = run(settings, "outbox", "audit", *range_)
        assert refused.returncode == 2
