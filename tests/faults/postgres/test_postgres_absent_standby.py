"""FC9: PostgreSQL waits for a synchronous standby that is not there, so no COMMIT ends.

PostgreSQL has no limit for that. Our own limit ends the wait: it is not known then whether the unit
was committed, and the same key settles that. Nothing stays open on the server.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import psycopg
import pytest

from consumers.commands import CommandReaction
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.doctor import Severity
from outbox.doctor.examination import examine_postgres
from outbox.errors import DependencyDown
from outbox.operations import Operation
from outbox.postgres.connection import connect
from outbox.relay.relay import Relay
from outbox.retention.create_ahead import create_day_partitions
from outbox.retention.retention import Retention
from outbox.write.database import Database
from schemas.catalog import CreateCatalog
from stack.demo.upstream import envelope_of
from stack.servers.postgres import ask
from tests.kit.load.roles import Collector, catalog_api, running, send
from tests.kit.operations.command_line import PARK, run
from tests.kit.operations.open_letters import list_dead_letters
from tests.kit.servers.cluster import Cluster, at, running_cluster
from tests.kit.verdicts.history import Happened
from tests.kit.verdicts.witness import Witness
from tests.kit.waiting import until
from web.app import application

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60
LIMITS = {
    "unit_timeout_seconds": 1.0,
    "ready_timeout_seconds": 1.0,
    "pool_connections": 1,
    "pool_timeout_seconds": 30.0,
    "backoff_first_seconds": 0.01,
    "backoff_longest_seconds": 0.05,
}
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
OPEN = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
EVENTS = "SELECT count(*) FROM outbox.messages WHERE aggregatetype = 'catalog.catalog'"
CATALOGS = "SELECT count(*) FROM catalog.catalogs"


async def await_standby(cluster: Cluster, name: str) -> None:
    """Set the name of the standby to wait for; with an empty one it waits for none."""
    async with await psycopg.AsyncConnection.connect(cluster.url, autocommit=True) as connection:
        await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'".encode())
        await connection.execute("SELECT pg_reload_conf()")

    async def known() -> bool:
        return await ask(cluster.url, "SHOW synchronous_standby_names") == name

    await until(known, WITHIN_SECONDS, 0.02)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with running_cluster() as cluster:
        yield cluster


@asynccontextmanager
async def without_standby(cluster: Cluster) -> AsyncIterator[None]:
    """Let no COMMIT come to its end for the length of the block."""
    await await_standby(cluster, "absent")
    try:
        yield
    finally:
        await await_standby(cluster, "")


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with catalog_api(settings) as api:
        transport = httpx.ASGITransport(application(api), raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", timeout=WITHIN_SECONDS
        ) as client:
            yield client


async def post(client: httpx.AsyncClient) -> httpx.Response:
    named = {"Idempotency-Key": "k"}
    return await client.post("/catalogs", json={"catalog_id": "c", "name": "n"}, headers=named)


async def test_http_answers_503_within_the_limit_and_the_same_key_settles_it(
    settings: Settings, cluster: Cluster
) -> None:
    """And readiness says that nothing can be committed, until it can be again."""
    own = at(settings, cluster.url).model_copy(update=LIMITS)
    async with served(own) as client, asyncio.timeout(WITHIN_SECONDS):
        ready = await client.get("/readyz")
        async with without_standby(cluster):
            refused = await post(client)
            unready = [await client.get("/readyz") for _ in range(2)]
            assert await ask(cluster.url, OPEN) == 0, "a transaction was left open"
        done, again = await post(client), await post(client)
        ready_again = await client.get("/readyz")
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) > 0
    assert [(each.status_code, each.json()["postgres"]) for each in unready] == [(503, "down")] * 2
    assert ready.json()["postgres"] == ready_again.json()["postgres"] == "ready"
    assert (done.status_code, again.status_code) == (201, 201)
    assert again.json() == done.json()
    assert (await ask(cluster.url, EVENTS), await ask(cluster.url, CATALOGS)) == (1, 1)


async def test_a_connection_whose_commit_was_given_up_is_used_by_nobody_again(
    settings: Settings, cluster: Cluster
) -> None:
    own = at(settings, cluster.url).model_copy(update=LIMITS)
    pids = []
    async with Database(own, "units") as database, asyncio.timeout(WITHIN_SECONDS):

        async def say() -> None:
            async with database.unit_of_work("say") as uow:
                backend = await uow.connection.exec_driver_sql("SELECT pg_backend_pid()")
                pids.append(backend.scalar_one())
                uow.publish(Happened(thing="a"))
                await uow.commit()

        await say()
        async with without_standby(cluster):
            with pytest.raises(DependencyDown, match="whether it was committed is not known"):
                await say()
        await say()
    assert pids[0] == pids[1] != pids[2], "the pool has one connection"


async def test_a_command_waits_for_commits_and_is_done_once(
    settings: Settings, cluster: Cluster
) -> None:
    own = at(settings, cluster.url).model_copy(update=LIMITS)
    replies = Collector(own)
    async with catalog_api(own) as api, asyncio.timeout(3 * WITHIN_SECONDS):
        consumer = Runner(own, CommandReaction("catalog", api.dispatcher))
        async with running(Relay(own), consumer, replies):
            async with without_standby(cluster):
                await send(own, [envelope_of(CreateCatalog(catalog_id="c", name="C"))])

                async def waits() -> bool:
                    return bool(await ask(cluster.url, WAITING))

                await until(waits, WITHIN_SECONDS, 0.02)
            await replies.collected(1, WITHIN_SECONDS)
            assert await list_dead_letters(own, 10) == []
    assert (await ask(cluster.url, EVENTS), await ask(cluster.url, CATALOGS)) == (1, 1)
    assert len(replies.envelopes) == 1


async def test_relay_prune_and_partitions_wait_for_no_standby(
    settings: Settings, cluster: Cluster
) -> None:
    """What was committed before is published, and no lock is held while a commit waits."""
    own = at(settings, cluster.url).model_copy(update=LIMITS | {"retention_days": 1})
    async with Database(own, "units") as database, database.unit_of_work("say") as uow:
        uow.publish(Happened(thing="a"))
        await uow.commit()
    async with without_standby(cluster), asyncio.timeout(WITHIN_SECONDS):
        async with Witness(own) as witness, running(Relay(own)):
            assert (await witness.saw_all()).right
        async with await connect(own) as connection:
            assert await create_day_partitions(connection, 5) == 2
            operation = Operation("tester", "prune", "all", "a test")
            await Retention(connection, own, operation).prune()
        assert await ask(cluster.url, WAITING) == 0


COMMANDS = {
    "release": ("outbox", "parked", "release", "--all"),
    "retry": ("consumers", "dead-letters", "retry", "--all", "--wait-seconds", "0"),
    "prune": ("consumers", "dead-letters", "prune", "--older-than-days", "1"),
    "rebuild": ("consumers", "rebuild", "start", "--projection", "neo4j"),
}
LETTER = """
INSERT INTO outbox.dead_letters
    (consumer, topic, partition, "offset", headers, stream, reason, error, status, attempts)
VALUES ('neo4j', 't', 0, 0, '[]', 't/k', 'schema', 'x', 'dead', 1)
"""


async def test_no_command_of_an_operator_waits_for_a_standby(
    settings: Settings, cluster: Cluster
) -> None:
    """It would wait for ever without a word, and the operator would not know what it has done."""
    own = at(settings, cluster.url)
    async with await connect(own) as connection:
        await connection.execute(PARK)
        await connection.execute(LETTER)
    async with without_standby(cluster):
        for words in COMMANDS.values():
            ran = await asyncio.to_thread(run, own, *words, "--reason", "an outage")
            assert ran.returncode == 0, (words, ran)
        assert await ask(cluster.url, WAITING) == 0
        assert await ask(cluster.url, "SELECT count(*) FROM outbox.operations") == len(COMMANDS)


@pytest.mark.parametrize("name", ["postgres-synchronous-standbys"])
async def test_doctor_names_the_standby_that_is_awaited(
    settings: Settings, cluster: Cluster, name: str
) -> None:
    own = at(settings, cluster.url)

    async def found() -> tuple[Severity, str]:
        (finding,) = [
            each for each in (await examine_postgres(own)).findings if each.check.name == name
        ]
        return finding.severity, finding.found

    assert (await found())[0] is Severity.OK
    async with without_standby(cluster):
        severity, words = await found()
    assert severity is Severity.FAILURE
    assert "'absent'" in words
    assert "0 of 1" in words
