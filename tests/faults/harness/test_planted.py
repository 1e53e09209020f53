"""M08 and M11, each caught beside the same test without it; and where every planted bug is."""

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from consumers.settings import Settings
from outbox.relay.relay import Relay
from outbox.runtime.failpoints import ReachedError, arm
from outbox.write.database import Database
from tests.kit.load.load import commit_events
from tests.kit.load.roles import running
from tests.kit.planted.planted_bugs import BUGS, Bug
from tests.kit.planted.planted_patches import marked_before_acknowledged, two_transactions
from tests.kit.proxies.kafka_proxy import Answer, KafkaProxy
from tests.kit.verdicts.history import Happened, Verdict
from tests.kit.verdicts.witness import Witness

pytestmark = pytest.mark.anyio

EVENTS = 60
WITHIN_SECONDS = 30.0
LOST_AFTER_SECONDS = 8.0
OUT_OF_ORDER_SEQUENCE_NUMBER = 45


async def refused_for_a_moment(settings: Settings, proxy: KafkaProxy, witness: Witness) -> Verdict:
    """Let the broker answer two batches by an error, and then take everything."""
    update = {
        "kafka_url": proxy.address, "publish_timeout_seconds": 1.0, "lease_seconds": 4.0,
    }  # fmt: skip
    behind = settings.model_copy(update=update)
    async with running(Relay(behind)):
        await commit_events(behind, EVENTS)
        await witness.saw_all()
        proxy.add_rule(answer := Answer(error=OUT_OF_ORDER_SEQUENCE_NUMBER, done=False, times=2))
        await commit_events(behind, EVENTS)
        await asyncio.wait_for(answer.happened.wait(), WITHIN_SECONDS)
        return await witness.saw_all(LOST_AFTER_SECONDS)


async def test_what_the_broker_did_not_acknowledge_is_sent_again(
    settings: Settings, proxy: KafkaProxy, witness: Witness
) -> None:
    """I2, R8."""
    verdict = await refused_for_a_moment(settings, proxy, witness)
    assert verdict.at_least_once, verdict


async def test_progress_that_is_marked_before_it_is_acknowledged_is_caught_losing(
    settings: Settings, proxy: KafkaProxy, witness: Witness
) -> None:
    """M08."""
    with marked_before_acknowledged():
        verdict = await refused_for_a_moment(settings, proxy, witness)
    assert verdict.lost > 0, verdict


ADD = text("INSERT INTO things VALUES ('a')")
STATE = """
    SELECT (SELECT count(*) FROM things),
           (SELECT count(*) FROM outbox.messages),
           (SELECT count(*) FROM outbox.streams)
"""


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    arm("")


async def end_before_the_commit(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> tuple[int, int, int] | None:
    """End a unit that has written all and not committed; return rows, messages and heads then."""
    await postgres.execute("CREATE TABLE things (id text PRIMARY KEY)")
    arm("write-3=raise")
    async with Database(settings, "units") as database:
        with pytest.raises(ReachedError):
            async with database.unit_of_work("add") as uow:
                await uow.connection.execute(ADD)
                uow.publish(Happened(thing="a"))
                await uow.commit()
    return await (await postgres.execute(STATE.encode())).fetchone()


@pytest.mark.usefixtures("disarmed")
async def test_a_unit_that_ends_before_its_commit_leaves_neither_row_nor_event(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """I1."""
    assert await end_before_the_commit(settings, postgres) == (0, 0, 0)


@pytest.mark.usefixtures("disarmed")
async def test_a_unit_that_commits_before_it_says_so_is_caught_silent(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """M11, I1: the row is there, and its event will never be published."""
    with two_transactions():
        assert await end_before_the_commit(settings, postgres) == (1, 0, 0)


PLANTED = [
    "M01", "M02", "M03", "M04", "M05", "M06", "M07", "M08", "M09", "M10",
    "M11", "M12", "M13", "M14", "M15", "M16", "M18", "M20", "M21",
]  # fmt: skip
ROOT = Path(__file__).parents[3]


def test_the_planted_bugs_are_these() -> None:
    assert [bug.id for bug in BUGS] == PLANTED


@pytest.mark.parametrize("bug", BUGS, ids=[f"{bug.id} {bug.name}: {bug.seen_as}" for bug in BUGS])
def test_a_planted_bug_is_named_by_the_tests_that_catch_it(bug: Bug) -> None:
    """Each of these tests exists, names the bug, and says in its own name what was seen."""
    for test in bug.caught_by:
        assert bug.id in docstring(test), test
        assert "caught" in test, test
    assert bug.id not in docstring(bug.right), bug.right


def docstring(test: str) -> str:
    """Return the docstring of a test; LookupError if there is no test of that name."""
    path, _, name = test.partition("::")
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
    raise LookupError(test)
