"""Doctor as an operator meets it: a sound stack, parts that do not answer, exit codes.

The judgement of each check is tested in tests/unit/outbox/doctor. What is planted in real servers
is in test_doctor_postgres.py and test_doctor_kafka.py; a standby and a pooler are in tests/faults.
"""

import asyncio
import json

import psycopg
import pytest

from consumers.settings import Settings
from outbox.doctor import CHECKS, Severity, diagnose
from outbox.relay.relay import Relay
from outbox.status import read_status
from tests.conftest import Servers
from tests.kit.defaults import are_odd
from tests.kit.load.roles import running
from tests.kit.operations.command_line import NOWHERE, run
from tests.kit.proxies.kafka_proxy import KafkaProxy
from tests.kit.proxies.toxics import Timeout
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

PUBLISH = "SELECT outbox.publish('test.note', 'k', 'test.noted.v1', '{}')"
# The stack's servers are alone, which is no failure in development.
ALONE = {"topic-replication", "topic-min-insync"}
TOLD_BY_A_STAND_IN = {"topic-partitions", "topic-writable", "topic-parked-keys"}
# `make test-defaults` gives the database what doctor is there to warn about.
TOLD_OF_ODD_DEFAULTS = {"postgres-session-defaults"} if are_odd() else set[str]()
ASKED_OF_REAL_BROKERS = {
    check.name for check in CHECKS if check.name.startswith(("topic-", "kafka-auto-"))
}


async def published(settings: Settings) -> bool:
    """A relay leads and has nothing to do."""
    async with await psycopg.AsyncConnection.connect(settings.libpq_url()) as connection:
        status = await read_status(connection)
    return status.relay_leading and not status.pending


async def test_a_sound_stack_has_no_failure_and_is_asked_every_check(
    settings: Settings, servers: Servers, postgres: psycopg.AsyncConnection
) -> None:
    """On a stand-in broker, what it cannot be asked is a warning."""
    await postgres.execute(PUBLISH)
    async with running(Relay(settings)):
        await until(lambda: published(settings), 30)
        told = await asyncio.to_thread(run, settings, "outbox", "doctor", "--json")
        shown = await asyncio.to_thread(run, settings, "outbox", "doctor")
    assert told.returncode == 0, told.stdout + told.stderr
    said = json.loads(told.stdout)
    assert {finding["check"] for finding in said["findings"]} == {check.name for check in CHECKS}
    not_ok = {finding["check"] for finding in said["findings"] if finding["severity"] != "ok"}
    silent = ASKED_OF_REAL_BROKERS - TOLD_BY_A_STAND_IN
    assert not_ok == (ALONE if servers.real_kafka else silent) | TOLD_OF_ODD_DEFAULTS
    assert (said["profile"], said["failure"], said["warning"] > 0) == ("development", 0, True)
    assert shown.returncode == 0
    assert "0 failure (profile development)" in shown.stdout
    assert shown.stdout.count("  repair: ") == said["warning"]


async def test_in_production_a_broker_that_is_alone_is_refused(
    settings: Settings, servers: Servers
) -> None:
    """R14, D9: what development may do is exit code 1 there. A stand-in cannot tell."""
    told = run(settings, "outbox", "doctor", "--json", AFTERCOMMIT_PROFILE="production")
    failed = {f["check"] for f in json.loads(told.stdout)["findings"] if f["severity"] == "failure"}
    assert failed == (ALONE if servers.real_kafka else set())
    assert told.returncode == (1 if failed else 0)


async def test_a_part_that_does_not_answer_is_a_failure_and_the_other_is_asked(
    settings: Settings,
) -> None:
    told = run(settings, "outbox", "doctor", "--json", POSTGRES_URL=NOWHERE)
    assert told.returncode == 1, told.stderr
    said = {f["check"]: f["severity"] for f in json.loads(told.stdout)["findings"]}
    assert (said["postgres-reachable"], said["kafka-reachable"]) == ("failure", "ok")
    assert said["topic-partitions"] == "warning"
    assert told.stderr == ""

    told = run(settings, "outbox", "doctor", "--json", KAFKA_URL="127.0.0.1:1")
    assert told.returncode == 1, told.stderr
    said = {f["check"]: f["severity"] for f in json.loads(told.stdout)["findings"]}
    assert (said["postgres-reachable"], said["kafka-reachable"]) == ("ok", "failure")
    assert "topic-exists" not in said


async def test_a_deaf_broker_is_a_failure_in_time(settings: Settings) -> None:
    async with KafkaProxy(settings.kafka_url) as proxy:
        proxy.add(Timeout())
        update = {"kafka_url": proxy.address, "doctor_timeout_seconds": 0.5}
        async with asyncio.timeout(20):
            diagnosis = await diagnose(settings.model_copy(update=update))
    (finding,) = [f for f in diagnosis.findings if f.check.name == "kafka-reachable"]
    assert finding.severity is Severity.FAILURE
