"""O8: a process reaches a limit of its machine; it waits or ends, and nothing is lost."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import psycopg
import pytest

from consumers.settings import Settings
from outbox.status import read_status
from tests.kit.consumers.groups import OPTIONS, Connection, send, settled
from tests.kit.load.load import commit_events
from tests.kit.load.role import Role
from tests.kit.load.stream import event
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

EVENTS = 60
ENDS_SECONDS = 20.0
LARGE = 60
WITHIN_SECONDS = 60.0
END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
PUBLISH = """
    SELECT outbox.publish(
        'faults.thing', %(key)s, 'faults.happened.v1', jsonb_build_object('thing', %(thing)s::text)
    )
"""

# 800,000 bytes, in texts that are short enough.
PUBLISH_LARGE = """
    SELECT outbox.publish('faults.thing', %(key)s, 'faults.happened.v1', jsonb_build_object(
        'thing', %(thing)s::text, 'more', to_jsonb(array_fill(repeat('x', 200000), ARRAY[4]))))
"""


@contextmanager
def no_free_descriptor(role: Role) -> Iterator[None]:
    """Let a process keep what it has open, and open nothing more."""
    soft, hard = resource.prlimit(role.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(role.pid, resource.RLIMIT_NOFILE, (3, hard))
    yield
    resource.prlimit(role.pid, resource.RLIMIT_NOFILE, (soft, hard))


async def cannot_connect(role: Role) -> bool:
    """Return whether the role has logged that it cannot connect; libpq does not say why."""
    return any("connection is bad" in line for line in role.lines)


async def test_a_relay_without_a_free_descriptor_waits_and_loses_nothing(
    settings: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """O8, I2-I5: its sessions are ended, and it cannot open others."""
    async with Role("relay", settings) as relay:
        await relay.ready()
        await commit_events(settings, EVENTS)
        await witness.saw_all()
        with no_free_descriptor(relay):
            await postgres.execute(END_OTHERS.encode())
            await commit_events(settings, EVENTS)
            await until(partial(cannot_connect, relay), WITHIN_SECONDS)
            assert (await read_status(postgres)).pending > 0
        verdict = await witness.saw_all()
    assert verdict.at_least_once, verdict


async def test_a_consumer_without_a_free_descriptor_waits_and_does_each_message_once(
    settings: Settings, tables: Connection
) -> None:
    """O8, I6: its store has ended the session, and it cannot open another one."""
    sent = [event(f"key{number}", 1) for number in range(EVENTS)]
    async with Role("reactor", settings, "narrow", OPTIONS, "6000") as reactor:
        await reactor.ready()
        await send(settings, *sent)
        await settled(tables, "narrow", sent)
        with no_free_descriptor(reactor):
            await tables.execute(END_OTHERS.encode())
            more = [event(f"key{number}", 2) for number in range(EVENTS)]
            await send(settings, *more)
            await until(partial(cannot_connect, reactor), WITHIN_SECONDS)
        await settled(tables, "narrow", sent + more)
    rows = await tables.execute("SELECT count(*) FROM outbox.dead_letters")
    assert await rows.fetchone() == (0,)


@pytest.mark.usefixtures("real_kafka")  # the mock broker keeps some 5 MB of a partition
async def test_a_relay_that_gets_no_memory_loses_and_reorders_nothing(
    settings: Settings, witness: Witness, postgres: psycopg.AsyncConnection
) -> None:
    """O8, I2-I5: it ends, or goes on in smaller pages; another relay publishes the rest."""
    async with Role("relay", settings) as relay:
        await relay.ready()
        most = relay.virtual_bytes()
        resource.prlimit(relay.pid, resource.RLIMIT_AS, (most, most))
        for number in range(LARGE):
            values = {"key": f"k{number % 5}", "thing": f"{number}"}
            await postgres.execute(PUBLISH_LARGE.encode(), values)
        with suppress(TimeoutError):
            assert await relay.ended(ENDS_SECONDS) != 0
    async with Role("relay", settings) as another:
        await another.ready()
        verdict = await witness.saw_all()
    assert verdict.at_least_once, verdict
