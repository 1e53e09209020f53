"""I2-I5, I13: an audit finds each thing that a relay must not do, where it is, and no other.

Each is planted on a right history that a real relay has left.
"""

from uuid import uuid4

import psycopg
import pytest

from consumers.settings import Settings
from outbox.audit.findings import FindingKind
from schemas.extensions import Extensions
from tests.kit.load.relaying import relay_all
from tests.kit.operations.auditing import MESSAGES, only_finding, run_audit, where
from tests.kit.operations.planted_records import TOPIC, alter, send, send_raw
from tests.kit.operations.planted_rows import Message, record_delivery, write, write_published

pytestmark = pytest.mark.anyio

Connection = psycopg.AsyncConnection


@pytest.mark.usefixtures("history")
async def test_a_published_message_that_is_in_no_topic_is_lost(
    settings: Settings, postgres: Connection
) -> None:
    """I2."""
    (lost,) = await write_published(postgres, "k1")
    found = await run_audit(settings)
    finding = only_finding(found, FindingKind.LOST, "not-in-topic")
    assert (finding.position, finding.key, finding.version) == (lost.position, "k1", lost.version)
    assert (finding.id, finding.topic, finding.partition) == (str(lost.id), *lost.home)
    assert (finding.offset, finding.details) == (None, {})
    assert (found.counts.published, found.counts.in_topics) == (MESSAGES + 1, MESSAGES)


@pytest.mark.usefixtures("history")
async def test_a_lost_message_names_the_delivery_that_claims_it(
    settings: Settings, postgres: Connection
) -> None:
    """I2: a topic may have been emptied, or a broker may have lost what it acknowledged."""
    there, lost = await write_published(postgres, "k1", "k1")
    offset = await send(settings, there.envelope(), there.home)
    await record_delivery(postgres, [there, lost], there.home, offset)
    found = await run_audit(settings)
    assert [each.kind for each in found.findings] == [FindingKind.LOST, FindingKind.MISRECORDED]
    claim = found.findings[0].details
    assert claim["positions"] == [there.position, lost.position]
    assert claim["offsets"] == [offset, offset + 1]
    assert found.findings[1].details["found"] == {"positions": [there.position] * 2, "messages": 1}


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
    offset = await send(settings, alter(message.envelope(), **changes), message.home)
    finding = only_finding(await run_audit(settings), FindingKind.ALTERED, why)
    assert (finding.position, finding.id) == (message.position, str(message.id))
    assert where(finding) == (message.home, offset)


async def test_extensions_that_were_written_are_the_ones_in_the_topic(
    settings: Settings, postgres: Connection
) -> None:
    """FA9: what a relay sends is right; a record without them, or with others, is altered."""
    written = await write(postgres, "k1", {"tenant": "é ✈", "a1": "x\\y", "correlationid": "c-1"})
    plain = await write(postgres, "k1", {"causationid": "c-1"})
    await relay_all(settings, postgres)
    assert (await run_audit(settings)).findings == []
    await send(settings, written.envelope(), written.home)
    await send(settings, alter(plain.envelope(), extensions=Extensions({"b": ""})), plain.home)
    found = await run_audit(settings)
    whys = [
        (each.position, each.why) for each in found.findings if each.kind is FindingKind.ALTERED
    ]
    assert whys == [(each.position, "other-extensions") for each in (written, plain)]


async def test_a_record_of_a_position_that_no_message_has_is_foreign(
    settings: Settings, history: list[Message]
) -> None:
    """I3."""
    last = history[-1]
    ghost = alter(
        last.envelope(), id=str(uuid4()), position=last.position + 7, sequence=last.version + 1
    )
    offset = await send(settings, ghost, last.home)
    finding = only_finding(await run_audit(settings), FindingKind.FOREIGN, "unknown-id")
    assert where(finding) == (last.home, offset)
    assert (finding.position, finding.id) == (last.position + 7, ghost.id)
    assert (finding.key, finding.version, finding.term) == (last.key, last.version + 1, 1)


async def test_a_known_version_under_another_id_is_foreign_and_altered(
    settings: Settings, history: list[Message]
) -> None:
    """I3, I13: a failover may lose the message, and another one then gets its version."""
    known = history[8]
    offset = await send(settings, alter(known.envelope(), id=str(uuid4())), known.home)
    found = await run_audit(settings)
    assert {(each.kind, each.why) for each in found.findings} == {
        (FindingKind.FOREIGN, "unknown-id"),
        (FindingKind.ALTERED, "other-id"),
    }
    assert {where(each) for each in found.findings} == {(known.home, offset)}
    (published_again,) = (each for each in found.findings if each.kind is FindingKind.ALTERED)
    assert published_again.details["id"] == str(known.id)
    assert published_again.details["position"] == known.position


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
    """I3: this holds for any bytes."""
    offset = await send_raw(settings, (TOPIC, 2), key, value, headers)
    finding = only_finding(await run_audit(settings), FindingKind.FOREIGN, "no-id")
    assert where(finding) == ((TOPIC, 2), offset)


@pytest.mark.usefixtures("history")
async def test_a_version_that_comes_behind_a_higher_one_is_reordered(
    settings: Settings, postgres: Connection
) -> None:
    """I4."""
    one, two = await write_published(postgres, "k1", "k1")
    first = await send(settings, two.envelope(), two.home)
    second = await send(settings, one.envelope(), one.home)
    await record_delivery(postgres, [one, two], one.home, first)
    finding = only_finding(
        await run_audit(settings), FindingKind.REORDERED, "after-a-higher-version"
    )
    assert where(finding) == (one.home, second)
    assert (finding.position, finding.version) == (one.position, one.version)
    assert finding.details == {"higher": two.version}


@pytest.mark.usefixtures("history")
async def test_a_key_in_two_partitions_is_reordered(
    settings: Settings, postgres: Connection
) -> None:
    """I4: a reader of one partition does not see the order in the other."""
    (strayed,) = await write_published(postgres, "k1")
    elsewhere = (TOPIC, (strayed.home[1] + 1) % 4)
    offset = await send(settings, strayed.envelope(), elsewhere)
    await record_delivery(postgres, [strayed], elsewhere, offset)
    finding = only_finding(await run_audit(settings), FindingKind.REORDERED, "in-two-partitions")
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
    finding = only_finding(await run_audit(settings), FindingKind.MISRECORDED, "other-records")
    assert where(finding) == ((row[1], row[2]), row[3])
    assert finding.details["delivery"] == row[0]


@pytest.mark.usefixtures("history")
async def test_a_record_that_no_delivery_covers_is_misrecorded(
    settings: Settings, postgres: Connection
) -> None:
    (bare,) = await write_published(postgres, "k1")
    offset = await send(settings, bare.envelope(), bare.home)
    finding = only_finding(await run_audit(settings), FindingKind.MISRECORDED, "no-delivery")
    assert where(finding) == (bare.home, offset)
    assert finding.position == bare.position
