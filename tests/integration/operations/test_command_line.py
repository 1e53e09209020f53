"""The commands as an operator meets them: `--json`, exit codes, one line for what is not known."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from consumers.settings import Settings
from services.local_qdrant import LocalQdrant
from tests.kit.aged import all_published, fetch, publish_aged
from tests.kit.operations.command_line import NOWHERE, PARK, run
from tests.kit.past_days import days_there, past_day


@contextmanager
def holding(settings: Settings) -> Iterator[None]:
    """Open the folder of Qdrant's local mode, which belongs to one process at a time."""
    client = LocalQdrant(settings.qdrant_url.removeprefix("file:"))
    try:
        yield
    finally:
        asyncio.run(client.close())


def test_status_counts_what_is_pending(settings: Settings, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SELECT outbox.publish('a.b', 'k', 'a.b-happened.v1', '{}')")
    told = run(settings, "outbox", "status", "--json")
    assert told.returncode == 0, told.stderr
    status = json.loads(told.stdout)
    assert (status["pending"], status["streams"], status["relay_leading"]) == (1, 1, False)
    assert status["oldest_pending_age_seconds"] >= 0
    assert "pending" in run(settings, "outbox", "status").stdout


def test_migrate_may_be_repeated(settings: Settings) -> None:
    assert run(settings, "services", "migrate").stdout == "0 migrations applied\n"
    assert run(settings, "outbox", "migrate").stdout == "0 migrations applied\n"


def test_dead_letters_are_listed(settings: Settings) -> None:
    assert json.loads(run(settings, "consumers", "dead-letters", "--json").stdout) == []


def test_drift_check_tells_the_keys_and_exits_with_1(settings: Settings, postgres_url: str) -> None:
    check = ("consumers", "drift", "check", "--patience", "0")
    assert run(settings, *check, "--projection", "moon").returncode == 2
    with psycopg.connect(postgres_url) as connection:
        for key in ("c/i", "c/j"):
            connection.execute(PUBLISH_ITEM, [key])
    told = run(settings, *check, "--projection", "neo4j", "--limit", "1", "--json")
    assert told.returncode == 1, told.stderr
    found = json.loads(told.stdout)["neo4j"]
    kinds = ("missing", "stale", "orphaned", "different", "foreign")
    assert found["counts"] == dict.fromkeys(kinds, 0) | {"missing": 2}
    assert [(f["kind"], f["key"]) for f in found["findings"]] == [("missing", "c/i")]


def test_a_store_that_cannot_be_compared_is_an_error_beside_the_others(settings: Settings) -> None:
    """Never in sync: there is no collection in Qdrant; the graph is compared all the same."""
    told = run(settings, "consumers", "drift", "check", "--json")
    assert told.returncode == 2
    found = json.loads(told.stdout)
    assert found["qdrant"]["error"].startswith("qdrant has no collection")
    assert found["neo4j"]["error"] is None
    assert "qdrant: qdrant has no collection" in told.stderr


def test_drift_check_compares_the_services_rows_too(settings: Settings, postgres_url: str) -> None:
    """FB2: exit code 1, and each key with its kind; not where `--projection` names one store."""
    with psycopg.connect(postgres_url) as connection:
        connection.execute("INSERT INTO catalog.catalogs VALUES ('c', 'by hand')")
        connection.execute("INSERT INTO catalog.items VALUES ('c', 'i', 'i', 't', '{}')")
        connection.execute(PUBLISH_ITEM, ["c/j"])
    with holding(settings):
        told = run(settings, "consumers", "drift", "check", "--patience", "0", "--json")
    found = json.loads(told.stdout)["catalog-rows"]
    assert sorted((each["kind"], each["key"]) for each in found["findings"]) == [
        ("missing", "c/j"),
        ("orphaned", "c"),
        ("orphaned", "c/i"),
    ]
    assert (found["heads"], found["shown"], found["error"]) == (1, 2, None)
    alone = run(settings, "consumers", "drift", "check", "--projection", "neo4j", "--json")
    assert json.loads(alone.stdout).keys() == {"neo4j"}


def test_a_folder_that_another_process_holds_is_one_line(settings: Settings) -> None:
    """FD3: this holds for commands that check, and for the role that needs the folder."""
    with holding(settings):
        for command, code in (
            (("drift", "check", "--projection", "qdrant"), 2),
            (("drift", "repair", "--projection", "qdrant", "--reason", "r"), 2),
            (("rebuild", "status"), 2),
            (("rebuild", "start", "--projection", "qdrant", "--reason", "r"), 2),
            (("replay-preview", "--all"), 2),
            (("qdrant",), 3),
        ):
            told = run(settings, "consumers", *command)
            assert told.returncode == code, (command, told.stderr)
            assert "Traceback" not in told.stderr
            lines = [line for line in told.stderr.splitlines() if "another process" in line]
            assert len(lines) == 1, told.stderr


def test_rebuild_status_says_which_stores_did_not_answer(settings: Settings) -> None:
    """FD4: exit code 2, and one line for each store; JSON has the errors, too."""
    nowhere = {"QDRANT_URL": "http://127.0.0.1:1", "NEO4J_URL": "bolt://127.0.0.1:1"}
    told = run(settings, "consumers", "rebuild", "status", "--json", **nowhere)
    assert told.returncode == 2
    said = json.loads(told.stdout)
    assert [said[name]["generations"] for name in ("qdrant", "neo4j")] == [None, None]
    for name in ("qdrant", "neo4j"):
        assert f"{name} is down" in said[name]["error"]
        assert len([x for x in told.stderr.splitlines() if x.startswith(f"{name}: ")]) == 1
    told = run(settings, "consumers", "rebuild", "status", **nowhere)
    assert (told.returncode, told.stdout.count("not known")) == (2, 2)


def test_drift_repair_is_refused_for_much_and_audited(
    settings: Settings, postgres_url: str
) -> None:
    """A dry run touches nothing; what is repaired is written down with its reason."""
    repair = ("consumers", "drift", "repair", "--projection", "neo4j", "--patience", "0", "--json")
    few = {"AFTERCOMMIT_REPAIR_FREE_KEYS": "0", "AFTERCOMMIT_OPERATOR": "ann"}
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(PUBLISH_CATALOG)
        refused = run(settings, *repair, "--reason", "a test", **few)
        assert refused.returncode == 3
        assert "1 of 1 keys differ" in json.loads(refused.stdout)["neo4j"]["refused"]
        dry = run(settings, *repair, "--reason", "a test", "--allow-share", "1", "--dry-run", **few)
        assert (dry.returncode, json.loads(dry.stdout)["neo4j"]["repaired"]) == (1, None)
        done = run(settings, *repair, "--reason", "a test", "--allow-share", "1", **few)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["neo4j"]["repaired"]["applied"] == 1
        recorded = "SELECT operator, action, subject, reason FROM outbox.operations"
        assert connection.execute(recorded).fetchall() == [
            ("ann", "drift repair", "neo4j", "a test")
        ]


PUBLISH_CATALOG = """
SELECT outbox.publish('catalog.catalog', 'c', 'catalog.catalog-created.v1',
                      '{"catalog_id": "c", "name": "C"}')
"""
PUBLISH_ITEM = """
SELECT outbox.publish('catalog.item', %s, 'catalog.item-upserted.v1', '{}')
"""


@pytest.mark.parametrize(
    "command",
    [("outbox", "status"), ("outbox", "migrate"), ("consumers", "dead-letters")],
    ids=" ".join,
)
def test_what_cannot_be_told_is_one_line_and_exit_code_2(
    settings: Settings, command: tuple[str, str]
) -> None:
    told = run(settings, *command, POSTGRES_URL=NOWHERE)
    assert told.returncode == 2
    assert told.stderr.startswith("postgres is down")
    assert len(told.stderr.splitlines()) == 1


def test_parked_keys_are_listed_and_released_or_discarded_with_a_reason(
    settings: Settings, postgres_url: str
) -> None:
    """R7: each is recorded as an operation, and all keys are touched only with `--all`."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(PARK)
        listed = json.loads(run(settings, "outbox", "parked", "list", "--json").stdout)
        assert [(p["key"], p["reason"], p["messages"]) for p in listed] == [("k", "too-large", 2)]

        discard = ("outbox", "parked", "discard", "--reason", "of no use", "--json")
        assert run(settings, *discard).returncode == 2
        told = run(settings, *discard, "--key", "k", "--dry-run")
        assert json.loads(told.stdout) == {"keys": 1, "dry_run": True}
        assert json.loads(run(settings, *discard, "--key", "other").stdout)["keys"] == 0
        assert json.loads(run(settings, *discard, "--all").stdout)["keys"] == 1
        left = connection.execute("SELECT position FROM outbox.parked_messages").fetchall()
        assert left == [(2000,)]
        assert connection.execute("SELECT released FROM outbox.parked").fetchall() == [(True,)]

        last = "SELECT action, subject, reason, details FROM outbox.operations ORDER BY id DESC"
        recorded = connection.execute(last).fetchone()
    keys = [{"aggregate": "a.b", "key": "k", "position": 1000}]
    assert recorded == ("parked discard", "all", "of no use", {"keys": keys})
    told = run(settings, "outbox", "parked", "release", "--reason", " ", "--all")
    assert (told.returncode, "reason" in told.stderr) == (2, True)


@pytest.mark.anyio
async def test_partitions_are_listed_made_and_dropped_with_a_reason(
    settings: Settings, postgres: psycopg.AsyncConnection
) -> None:
    """D2: each drop is written down in its own transaction, and what is left has its reason."""
    for ago in (9, 8):
        await past_day(postgres, ago)
        await publish_aged(postgres, ago, f"k{ago}")
        if ago == 9:
            await all_published(postgres)
    listed = json.loads(run(settings, "outbox", "partitions", "--json").stdout)
    told = [(each["messages"], each["published"], each["parked"]) for each in listed["days"]]
    assert told[:2] == [(1, True, 0), (1, False, 0)]
    assert [each["due"] for each in listed["days"]] == [True, True, *[False] * 5]
    assert "messages" in run(settings, "outbox", "partitions", "list").stdout
    assert run(settings, "outbox", "partitions", "create").stdout == "0 partitions created\n"

    prune = ("outbox", "partitions", "prune", "--json", "--reason")
    dry = json.loads(run(settings, *prune, "full", "--dry-run").stdout)
    assert len(await days_there(postgres)) == 2
    assert run(settings, *prune, " ").returncode == 2
    assert run(settings, *prune, "full", "--older-than-days", "0").returncode == 2
    assert json.loads(run(settings, *prune, "full", "--older-than-days", "30").stdout)["left"] == {}
    assert len(await days_there(postgres)) == 2

    pruned = run(settings, *prune, "full", AFTERCOMMIT_OPERATOR="ann")
    assert pruned.returncode == 1, pruned.stderr
    told_of = json.loads(pruned.stdout)
    assert (told_of["dropped"], list(told_of["left"])) == (dry["dropped"], list(dry["left"]))
    recorded = "SELECT operator, action, subject, reason, details FROM outbox.operations"
    assert await fetch(postgres, recorded) == [
        ("ann", "partitions prune", told_of["dropped"][0], "full", {"kept": 1})
    ]
    await all_published(postgres)
    assert run(settings, *prune, "full").returncode == 0
    assert (
        "rows of the default partition deleted"
        in run(settings, *prune[:3], "--reason", "full").stdout
    )


@pytest.mark.parametrize("package", ["outbox", "services", "consumers"])
def test_settings_that_break_a_rule_are_named_one_a_line(settings: Settings, package: str) -> None:
    broken = {"AFTERCOMMIT_LEASE_SECONDS": "-1", "AFTERCOMMIT_PAGE_BYTES": "none"}
    command = {"outbox": "status", "services": "migrate", "consumers": "dead-letters"}[package]
    told = run(settings, package, command, **broken)
    assert told.returncode == 2
    assert [line.split(":")[0] for line in told.stderr.splitlines()] == [
        "AFTERCOMMIT_LEASE_SECONDS",
        "AFTERCOMMIT_PAGE_BYTES",
    ]
