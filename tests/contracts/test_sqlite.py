"""The example of docs/projections.md keeps every promise, and the page shows it word for word."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consumers.projections.projection import ProjectionReaction
from consumers.projections.testing.conformance import PROMISES, Promise, assert_shows
from consumers.projections.testing.sample import catalog_items
from consumers.runner.runner import Runner
from consumers.settings import Settings
from outbox.errors import DependencyDown
from tests.kit.load.roles import running
from tests.kit.projections.changes import send_changes
from tests.kit.projections.sqlite_projection import SqliteProjection
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "projections.md"
EXAMPLE = ROOT / "tests" / "kit" / "projections" / "sqlite_projection.py"
BLOCK = re.compile(r"^<!-- (\S+) -->\n```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "items.db")


@pytest.fixture
async def projection(path: str) -> AsyncIterator[SqliteProjection]:
    made = SqliteProjection(path)
    await made.prepare()
    yield made
    made._database.close()


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_a_table_keeps(promise: Promise, projection: SqliteProjection) -> None:
    await promise(projection, catalog_items())


async def test_a_table_that_somebody_else_holds_is_an_outage(
    path: str, projection: SqliteProjection
) -> None:
    other = SqliteProjection(path)
    other._database.execute("BEGIN EXCLUSIVE")
    projection._database.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(DependencyDown, match="locked"):
        await projection.apply([catalog_items().upserted("a", 1)])
    other._database.close()
    await projection.apply([catalog_items().upserted("a", 1)])


def test_the_page_shows_what_is_tested_word_for_word() -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert [name for name, _ in blocks].count(EXAMPLE.relative_to(ROOT).as_posix()) == 1
    for name, block in blocks:
        assert block in (ROOT / name).read_text(encoding="utf-8"), block
    assert EXAMPLE.read_text(encoding="utf-8") in [block for _, block in blocks]


def test_the_example_has_less_than_sixty_lines() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 60


async def test_a_runner_takes_it_as_it_is(
    settings: Settings, path: str, projection: SqliteProjection
) -> None:
    changes = [catalog_items().upserted(name, 1) for name in "abc"]
    runner = Runner(settings, ProjectionReaction(SqliteProjection(path)))
    async with running(runner):
        await send_changes(settings, changes)
        await until(lambda: _has_rows(projection, len(changes)), 60)
    await assert_shows(projection, changes)


async def _has_rows(projection: SqliteProjection, count: int) -> bool:
    return len([entry async for entry in projection.scan()]) == count
