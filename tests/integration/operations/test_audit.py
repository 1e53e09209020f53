"""I2-I5, I12, I13: an audit finds each thing that a relay must not do, where it is, and no other.

Each is planted on a right history that a real relay has left.
"""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from consumers.settings import Settings
from outbox.audit.audit import Audit, audit
from outbox.audit.findings import AuditFinding, FindingKind
from outbox.audit.scope import AuditScope, Range, read_scope
from outbox.errors import MessageRejected
from outbox.kafka import Partition
from outbox.operations import Operation
from outbox.postgres.connection import connect
from outbox.relay.parked_repair import ParkedSelection, discard
from outbox.relay.relay import Relay
from outbox.status import read_status
from schemas.extensions import Extensions
from tests.kit.command_line import run
from tests.kit.load.roles import running
from tests.kit.planted_records import (
    TOPIC,
    Message,
    altered,
    passed,
    read,
    recorded,
    send,
    send_raw,
    write,
)
from tests.kit.verdicts.history import write as write_history
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection
WITHIN_SECONDS = 60.0
MESSAGES = 40
KEYS = 7


async def audited(settings: Settings, asked: Range | None = None) -> Audit:
    async with await connect(settings) as connection:
        return await audit(connection, settings, asked)


async def published(settings: Settings, postgres: Connection) -> None:
    """A relay publishes all that is committed, and stops."""

    async def nothing_pending() -> bool:
        return (await read_status(postgres)).pending == 0

    async with running(Relay(settings)):
        await until(nothing_pending, WITHIN_SECONDS, 0.02)


@pytest.fixture
async def history(settings: Settings, postgres: Connection) -> list[Message]:
    """What a real relay has published, a few messages a page; the audit finds nothing in it."""
    written = [await write(postgres, f"k{number % KEYS}") for number in range(MESSAGES)]
    await published(settings.model_copy(update={"page_messages": 11}), postgres)
    found = await audited(settings)
    assert found.right
    assert found.findings == []
    return written


def only(found: Audit, kind: FindingKind, why: str) -> AuditFinding:
    """The one finding that there is."""
    assert [(each.kind, each.why) for each in found.findings] == [(kind, why)]
    for name in FindingKind:
        assert getattr(found.counts, name) == (name is kind)
    assert found.right is (kind is FindingKind.DOUBLED)
    return found.findings[0]


def where(finding: AuditFinding) -> tuple[Partition, int | None]:
    assert finding.partition is not None
    return (finding.topic, finding.partition), finding.offset


async def test_what_a_relay_publishes_is_right_and_reconciles(
    settings: Settings, postgres: Connection
) -> None:
    """I12: eight writers who roll back, lock late and share keys; then some not sent yet."""
    await write_history(settings, transactions=1_600, seed=31)
    await published(settings.model_copy(update={"page_messages": 100}), postgres)
    pending = [await write(postgres, "k") for _ in range(3)]
    found = await audited(settings)
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
    found = await audited(settings)
    assert (found.right, found.counts.committed, found.counts.read) == (True, 0, 0)


@pytest.mark.usefixtures("history")
async def test_a_published_message_that_is_in_no_topic_is_lost(
    settings: Settings, postgres: Connection
) -> None:
    """I2."""
    lost = await write(postgres, "k1")
    await passed(postgres)
    found = await audited(settings)
    finding = only(found, FindingKind.LOST, "not-in-topic")
    assert (finding.position, finding.key, finding.version) == (lost.position, "k1", lost.version)
    assert (finding.id, finding.topic, finding.partition) == (str(lost.id), *lost.home)
    assert (finding.offset, finding.details) == (None, {})
    assert (found.counts.published, found.counts.in_topics) == (MESSAGES + 1, MESSAGES)


@pytest.mark.usefixtures("history")
async def test_a_lost_message_names_the_delivery_that_claims_it(
    settings: Settings, postgres: Connection
) -> None:
    """I2: as after a topic was emptied, or a broker lost what it had acknowledged."""
    there, lost = await write(postgres, "k1"), await write(postgres, "k1")
    await passed(postgres)
    offset = await send(settings, there.envelope(), there.home)
    await recorded(postgres, [there, lost], there.home, offset)
    found = await audited(settings)
    assert [each.kind for each in found.findings] == [FindingKind.LOST, FindingKind.MISRECORDED]
    claim = found.findings[0].details
    assert claim["positions"] == [there.position, lost.position]
    assert claim["offsets"] == [offset, offset + 1]
    assert found.findings[1].details["found"] == {"positions": [there.position] * 2, "messages": 1}


async def test_a_faithful_copy_is_told_and_forgiven(
    settings: Settings, history: list[Message]
) -> None:
    """I5, R6: a crash may leave it."""
    again = history[3]
    offset = await send(settings, again.envelope(), again.home)
    finding = only(await audited(settings), FindingKind.DOUBLED, "copy")
    assert (finding.position, finding.id) == (again.position, str(again.id))
    assert where(finding) == (again.home, offset)
    partition, first = finding.details["first"]
    assert partition == again.home[1]
    assert first < offset


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"payload": b'{"text": "b"}'}, "other-payload"),
        ({"payload": None}, "other-payload"),
        ({"type": "test.unsaid.v1"}, "other-payload"),
        ({"sequence": 99}, "other-version"),
        ({"key": "other"}, "other-key"),
        ({"extensions": Extensions({"tenant": "a"})}, "other-extensions"),
    ],
)
async def test_a_copy_with_another_content_is_altered(
    settings: Settings, history: list[Message], changes: dict[str, object], why: str
) -> None:
    """I5, I13."""
    message = history[5]
    offset = await send(settings, altered(message.envelope(), **changes), message.home)
    finding = only(await audited(settings), FindingKind.ALTERED, why)
    assert (finding.position, finding.id) == (message.position, str(message.id))
    assert where(finding) == (message.home, offset)


async def test_extensions_that_were_written_are_the_ones_in_the_topic(
    settings: Settings, postgres: Connection
) -> None:
    """FA9: as the relay sends them; a record without them, or with others, is altered."""
    written = await write(postgres, "k1", {"tenant": "é ✈", "a1": "x\\y", "correlationid": "c-1"})
    plain = await write(postgres, "k1", {"causationid": "c-1"})
    await published(settings, postgres)
    assert (await audited(settings)).findings == []
    await send(settings, written.envelope(), written.home)
    await send(settings, altered(plain.envelope(), extensions=Extensions({"b": ""})), plain.home)
    found = await audited(settings)
    whys = [
        (each.position, each.why) for each in found.findings if each.kind is FindingKind.ALTERED
    ]
    assert whys == [(each.position, "other-extensions") for each in (written, plain)]


async def test_a_record_of_a_position_that_no_message_has_is_foreign(
    settings: Settings, history: list[Message]
) -> None:
    """I3."""
    last = history[-1]
    ghost = altered(
        last.envelope(), id=str(uuid4()), position=last.position + 7, sequence=last.version + 1
    )
    offset = await send(settings, ghost, last.home)
    finding = only(await audited(settings), FindingKind.FOREIGN, "unknown-id")
    assert where(finding) == (last.home, offset)
    assert (finding.position, finding.id) == (last.position + 7, ghost.id)
    assert (finding.key, finding.version, finding.term) == (last.key, last.version + 1, 1)


async def test_a_known_version_under_another_id_is_foreign_and_altered(
    settings: Settings, history: list[Message]
) -> None:
    """I3, I13: as when a failover lost the message, and its version was said again."""
    known = history[8]
    offset = await send(settings, altered(known.envelope(), id=str(uuid4())), known.home)
    found = await audited(settings)
    assert {(each.kind, each.why) for each in found.findings} == {
        (FindingKind.FOREIGN, "unknown-id"),
        (FindingKind.ALTERED, "other-id"),
    }
    assert {where(each) for each in found.findings} == {(known.home, offset)}
    (said_again,) = (each for each in found.findings if each.kind is FindingKind.ALTERED)
    assert said_again.details["id"] == str(known.id)
    assert said_again.details["position"] == known.position


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"k1", b"hello", []),
        (None, b"hello", []),
        (b"a\tb\n\\N\x00\xff", b"\x00", [("ce_id", b"\xff\t\n"), ("position", b"-1")]),
        (b"k1", b"{}", [("position", b"9" * 40), ("ce_sequence", b"1e3"), ("ce_time", b"now")]),
    ],
)
@pytest.mark.usefixtures("history")
async def test_a_record_without_headers_of_ours_is_foreign(
    settings: Settings,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes]],
) -> None:
    """I3: whatever its bytes are."""
    offset = await send_raw(settings, (TOPIC, 2), key, value, headers)
    finding = only(await audited(settings), FindingKind.FOREIGN, "no-id")
    assert where(finding) == ((TOPIC, 2), offset)


@pytest.mark.usefixtures("history")
async def test_a_version_that_comes_behind_a_higher_one_is_reordered(
    settings: Settings, postgres: Connection
) -> None:
    """I4."""
    one, two = await write(postgres, "k1"), await write(postgres, "k1")
    await passed(postgres)
    first = await send(settings, two.envelope(), two.home)
    second = await send(settings, one.envelope(), one.home)
    await recorded(postgres, [one, two], one.home, first)
    finding = only(await audited(settings), FindingKind.REORDERED, "after-a-higher-version")
    assert where(finding) == (one.home, second)
    assert (finding.position, finding.version) == (one.position, one.version)
    assert finding.details == {"higher": two.version}


@pytest.mark.usefixtures("history")
async def test_a_key_in_two_partitions_is_reordered(
    settings: Settings, postgres: Connection
) -> None:
    """I4: a reader of one partition knows nothing of the other."""
    strayed = await write(postgres, "k1")
    await passed(postgres)
    elsewhere = (TOPIC, (strayed.home[1] + 1) % 4)
    offset = await send(settings, strayed.envelope(), elsewhere)
    await recorded(postgres, [strayed], elsewhere, offset)
    finding = only(await audited(settings), FindingKind.REORDERED, "in-two-partitions")
    assert where(finding) == (elsewhere, offset)
    assert finding.position == strayed.position
    assert finding.details == {"home": strayed.home[1]}


TAMPERED = {
    "first_position": "first_position = first_position + 1",
    "last_position": "last_position = last_position - 1",
    "messages": "messages = messages + 1",
}


TAMPER = """
    UPDATE outbox.deliveries SET CHANGE
    WHERE id = (SELECT min(id) FROM outbox.deliveries WHERE messages > 1)
    RETURNING id, topic, partition, first_offset
"""


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("change", TAMPERED.values(), ids=list(TAMPERED))
async def test_a_delivery_that_its_offsets_do_not_bear_out_is_misrecorded(
    settings: Settings, postgres: Connection, change: str
) -> None:
    tamper = TAMPER.replace("CHANGE", change)
    row = await (await postgres.execute(tamper.encode())).fetchone()
    assert row is not None
    finding = only(await audited(settings), FindingKind.MISRECORDED, "other-records")
    assert where(finding) == ((row[1], row[2]), row[3])
    assert finding.details["delivery"] == row[0]


@pytest.mark.usefixtures("history")
async def test_a_record_that_no_delivery_covers_is_misrecorded(
    settings: Settings, postgres: Connection
) -> None:
    bare = await write(postgres, "k1")
    await passed(postgres)
    offset = await send(settings, bare.envelope(), bare.home)
    finding = only(await audited(settings), FindingKind.MISRECORDED, "no-delivery")
    assert where(finding) == (bare.home, offset)
    assert finding.position == bare.position


@pytest.mark.usefixtures("history")
async def test_parked_and_discarded_messages_are_counted_and_not_missed(
    settings: Settings, postgres: Connection
) -> None:
    """I12."""
    refused, behind = await write(postgres, "k1"), await write(postgres, "k1")
    await passed(postgres)
    park = "INSERT INTO outbox.parked (aggregatetype, aggregateid, topic, position, reason)"
    await postgres.execute(
        park.encode() + b" VALUES ('test.note', 'k1', %s, %s, 'too-large')",
        [TOPIC, refused.position],
    )
    for message in (refused, behind):
        wait = "INSERT INTO outbox.parked_messages VALUES ('test.note', 'k1', %s)"
        await postgres.execute(wait, [message.position])
    found = await audited(settings)
    assert (found.right, found.counts.parked, found.counts.discarded) == (True, 2, 0)
    await discard(
        postgres, ParkedSelection(), Operation("tester", "parked discard", "all", "of no use")
    )
    found = await audited(settings)
    assert (found.right, found.counts.parked, found.counts.discarded) == (True, 1, 1)
    assert found.counts.committed == MESSAGES + 2
    assert found.counts.published == found.counts.in_topics == MESSAGES


@pytest.mark.usefixtures("history")
async def test_what_is_committed_and_sent_while_topics_are_read_is_no_finding(
    settings: Settings, postgres: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record is there, and its message was not when the audit began."""
    late: list[Message] = []

    async def then_one_more(connection: Connection, asked: Range) -> AuditScope:
        scene = await read_scope(connection, asked)
        late.append(await write(postgres, "k1"))
        await published(settings, postgres)
        return scene

    monkeypatch.setattr("outbox.audit.audit.read_scope", then_one_more)
    found = await audited(settings)
    assert (found.right, found.findings, len(late)) == (True, [], 1)
    assert (found.counts.committed, found.counts.read) == (MESSAGES, MESSAGES + 1)


async def test_a_finding_outside_the_range_is_not_reported(
    settings: Settings, postgres: Connection, history: list[Message]
) -> None:
    lost = await write(postgres, "k1")
    await passed(postgres)
    ghost = altered(lost.envelope(), id=str(uuid4()), position=lost.position + 3, sequence=77)
    await send(settings, ghost, lost.home)
    before = await audited(settings, Range(to_position=history[-1].position))
    assert (before.right, before.findings) == (True, [])
    assert before.counts.committed == MESSAGES
    middle = Range(from_position=history[10].position, to_position=history[29].position)
    inside = await audited(settings, middle)
    assert (inside.right, inside.counts.in_topics, inside.findings) == (True, 20, [])
    after = await audited(settings, Range(from_position=history[-1].position + 1))
    assert {each.kind for each in after.findings} == {FindingKind.LOST, FindingKind.FOREIGN}
    other = await audited(settings, Range(topics=["test.ours"]))
    assert (other.right, other.counts.committed) == (True, 0)


async def test_an_alien_record_belongs_to_the_range_of_its_neighbours(
    settings: Settings, postgres: Connection, history: list[Message]
) -> None:
    """It has no position of its own: one between two ranges is of both, and no other of any."""
    first = await write(postgres, "k1")
    one = await send_raw(settings, first.home, b"k1", b"hello", [])
    await published(settings, postgres)
    second = await write(postgres, "k1")
    two = await send_raw(settings, second.home, b"k1", b"hello", [])
    await published(settings, postgres)
    before = await audited(settings, Range(to_position=history[-1].position))
    assert where(only(before, FindingKind.FOREIGN, "no-id")) == (first.home, one)
    after = await audited(settings, Range(from_position=second.position))
    assert where(only(after, FindingKind.FOREIGN, "no-id")) == (first.home, two)
    within = Range(from_position=first.position, to_position=first.position)
    found = (await audited(settings, within)).findings
    assert [each.offset for each in found] == [one, two]


@pytest.mark.usefixtures("history")
async def test_a_late_commit_is_found_though_its_position_lies_before_the_range_s_deliveries(
    settings: Settings, postgres: Connection
) -> None:
    """The last delivery that ends before the range stands behind what the range begins with."""
    async with await Connection.connect(settings.libpq_url()) as slow:
        early = await write(slow, "slow")
        later = await write(postgres, "k1")
        await published(settings, postgres)
        await slow.commit()
    await published(settings, postgres)
    found = await audited(settings, Range(from_position=early.position + 1))
    assert (found.right, found.counts.in_topics) == (True, 1)
    found = await audited(settings, Range(to_position=early.position))
    assert (found.right, found.counts.in_topics) == (True, MESSAGES + 1)
    assert later.position > early.position


async def test_times_say_a_range_too(settings: Settings, history: list[Message]) -> None:
    """By the database's clock; a duration is one before now."""
    assert (await audited(settings, Range(since="1 hours"))).counts.in_topics == MESSAGES
    assert (await audited(settings, Range(since="0 seconds"))).counts.committed == 0
    middle = history[20].created_at
    assert (await audited(settings, Range(since=middle))).counts.in_topics == MESSAGES - 20
    assert (await audited(settings, Range(until=middle))).counts.in_topics == 20
    past = datetime.now(UTC) - timedelta(days=2)
    assert (await audited(settings, Range(until=past))).counts.committed == 0
    with pytest.raises(MessageRejected, match="not by both"):
        await audited(settings, Range(from_position=1, since="1 hours"))


async def test_records_of_dropped_days_are_not_judged(
    settings: Settings, postgres: Connection, history: list[Message]
) -> None:
    """Their day is what tells, not the position: it may lie above one of a day that is still there.

    A record of today is foreign, though all positions that are left are above its own.
    """
    last = history[-1]
    gone = altered(
        last.envelope(), id=str(uuid4()), sequence=500, position=last.position - 1,
        time=last.created_at - timedelta(days=40),
    )  # fmt: skip
    await send(settings, gone, last.home)
    found = await audited(settings)
    assert (found.right, found.counts.not_kept) == (True, 1)
    await postgres.execute("DELETE FROM outbox.messages WHERE position = %s", [history[0].position])
    found = await audited(settings)
    finding = only(found, FindingKind.FOREIGN, "unknown-id")
    assert (finding.position, finding.id) == (history[0].position, str(history[0].id))


async def test_a_message_sent_before_positions_were_replaced_is_a_copy(
    settings: Settings, postgres: Connection, history: list[Message]
) -> None:
    """As `reconcile` does where they had been drawn twice: the id is what stays."""
    message = history[4]
    moved = message.position + 1_000_000
    await postgres.execute(
        "UPDATE outbox.messages SET position = %s WHERE position = %s", [moved, message.position]
    )
    again = await read(postgres, moved)
    offset = await send(settings, again.envelope(), again.home)
    await recorded(postgres, [again], again.home, offset)
    finding = only(await audited(settings), FindingKind.DOUBLED, "copy")
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
    await passed(postgres)
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
