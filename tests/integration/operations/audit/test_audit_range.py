"""An audit of a range of positions or times judges what belongs to it, and nothing else."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from consumers.settings import Settings
from outbox.audit.findings import FindingKind
from outbox.audit.scope import Range
from outbox.errors import InvalidInput
from tests.kit.load.relaying import relay_all
from tests.kit.operations.auditing import MESSAGES, only_finding, run_audit, where
from tests.kit.operations.planted_records import alter, send, send_raw
from tests.kit.operations.planted_rows import Message, write, write_published

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection


async def test_a_finding_outside_the_range_is_not_reported(
    settings: Settings, postgres: Connection, history: list[Message]
) -> None:
    (lost,) = await write_published(postgres, "k1")
    ghost = alter(lost.envelope(), id=str(uuid4()), position=lost.position + 3, sequence=77)
    await send(settings, ghost, lost.home)
    before = await run_audit(settings, Range(to_position=history[-1].position))
    assert (before.right, before.findings) == (True, [])
    assert before.counts.committed == MESSAGES
    middle = Range(from_position=history[10].position, to_position=history[29].position)
    inside = await run_audit(settings, middle)
    assert (inside.right, inside.counts.in_topics, inside.findings) == (True, 20, [])
    after = await run_audit(settings, Range(from_position=history[-1].position + 1))
    assert {each.kind for each in after.findings} == {FindingKind.LOST, FindingKind.FOREIGN}
    other = await run_audit(settings, Range(topics=["test.ours"]))
    assert (other.right, other.counts.committed) == (True, 0)


async def test_an_alien_record_belongs_to_the_range_of_its_neighbours(
    settings: Settings, postgres: Connection, history: list[Message]
) -> None:
    """It has no position of its own: one between two ranges belongs to both, any other to none."""
    first = await write(postgres, "k1")
    one = await send_raw(settings, first.home, b"k1", b"hello", [])
    await relay_all(settings, postgres)
    second = await write(postgres, "k1")
    two = await send_raw(settings, second.home, b"k1", b"hello", [])
    await relay_all(settings, postgres)
    before = await run_audit(settings, Range(to_position=history[-1].position))
    assert where(only_finding(before, FindingKind.FOREIGN, "no-id")) == (first.home, one)
    after = await run_audit(settings, Range(from_position=second.position))
    assert where(only_finding(after, FindingKind.FOREIGN, "no-id")) == (first.home, two)
    within = Range(from_position=first.position, to_position=first.position)
    found = (await run_audit(settings, within)).findings
    assert [each.offset for each in found] == [one, two]


@pytest.mark.usefixtures("history")
async def test_a_late_commit_is_found_though_its_position_lies_before_the_range_s_deliveries(
    settings: Settings, postgres: Connection
) -> None:
    """The last delivery that ends before the range stands behind what the range begins with."""
    async with await Connection.connect(settings.libpq_url()) as slow:
        early = await write(slow, "slow")
        later = await write(postgres, "k1")
        await relay_all(settings, postgres)
        await slow.commit()
    await relay_all(settings, postgres)
    found = await run_audit(settings, Range(from_position=early.position + 1))
    assert (found.right, found.counts.in_topics) == (True, 1)
    found = await run_audit(settings, Range(to_position=early.position))
    assert (found.right, found.counts.in_topics) == (True, MESSAGES + 1)
    assert later.position > early.position


async def test_times_say_a_range_too(settings: Settings, history: list[Message]) -> None:
    """They are compared with the database's clock; a duration counts back from now."""
    assert (await run_audit(settings, Range(since="1 hours"))).counts.in_topics == MESSAGES
    assert (await run_audit(settings, Range(since="0 seconds"))).counts.committed == 0
    middle = history[20].created_at
    assert (await run_audit(settings, Range(since=middle))).counts.in_topics == MESSAGES - 20
    assert (await run_audit(settings, Range(until=middle))).counts.in_topics == 20
    past = datetime.now(UTC) - timedelta(days=2)
    assert (await run_audit(settings, Range(until=past))).counts.committed == 0
    with pytest.raises(InvalidInput, match="not by both"):
        await run_audit(settings, Range(from_position=1, since="1 hours"))


async def test_records_of_dropped_days_are_not_judged(
    settings: Settings, postgres: Connection, history: list[Message]
) -> None:
    """The record's day decides, not its position, which may be above one that is still there.

    A record of today is foreign, although all positions that are left are above its own.
    """
    last = history[-1]
    gone = alter(
        last.envelope(), id=str(uuid4()), sequence=500, position=last.position - 1,
        time=last.created_at - timedelta(days=40),
    )  # fmt: skip
    await send(settings, gone, last.home)
    found = await run_audit(settings)
    assert (found.right, found.counts.not_kept) == (True, 1)
    await postgres.execute("DELETE FROM outbox.messages WHERE position = %s", [history[0].position])
    found = await run_audit(settings)
    finding = only_finding(found, FindingKind.FOREIGN, "unknown-id")
    assert (finding.position, finding.id) == (history[0].position, str(history[0].id))
