"""FD3, FC7: any input of an operator and any record: a command ends in order, with a line."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import typer
from typer.core import TyperGroup

import bench.__main__ as bench
from consumers.__main__ import app as consumers
from consumers.settings import Settings
from outbox.__main__ import app as outbox
from outbox.runtime import logs
from outbox.runtime.lifecycle import run_command
from services.__main__ import app as services
from stack.__main__ import app as stack
from tests.kit.load.role import environment
from web.__main__ import app as web

APPS = {
    "outbox": outbox,
    "consumers": consumers,
    "services": services,
    "web": web,
    "stack": stack,
}
APPS |= {"bench": bench.app}
NUMBERS = ("9223372036854775808", "99999999999999999999", "-1", "1e400", "nan", "inf", "x", "")
TIMES = ("1e400d", "999999999w", "99999-01-01", "0000-00-00", "2026-02-30", "٣d", "\x1b[2J", "")
SAID = {"--reason": "x", "--projection": "neo4j"}
HOSTILE = "\x1b[31mred\x9b2J\n2026-11-30 forged\u202e\u2028\u200b"
KEY = "k\u202e\u200bx"  # the column takes no controls, and these
# Answers of one question each to PostgreSQL; none of them waits, or writes.
QUESTIONS = [
    ("outbox", "parked", "list"),
    ("outbox", "parked", "release", "--dry-run", "--reason", HOSTILE, "--all"),
    ("outbox", "replay", "preview", "--all"),
    ("outbox", "replay", "list"),
    ("outbox", "replay", "show", "1"),
    ("outbox", "partitions"),
    ("outbox", "audit"),
    ("consumers", "dead-letters", "list"),
    ("consumers", "dead-letters", "show", "1"),
    ("consumers", "drift", "check", "--projection", "neo4j", "--patience", "0"),
]
PLANT = """
    INSERT INTO outbox.parked (aggregatetype, aggregateid, topic, position, reason)
    VALUES (%(k)s, %(k)s, 't', 1000, 'too-large');
    INSERT INTO outbox.parked_messages (aggregatetype, aggregateid, position)
    VALUES (%(k)s, %(k)s, 1000);
    INSERT INTO outbox.dead_letters (consumer, topic, partition, "offset", stream, reason, error,
                                     attempts, key, value, headers, status)
    VALUES (%(h)s, %(h)s, 0, 1, %(h)s, %(h)s, %(h)s, 1, %(b)s, %(b)s, '[]', 'dead');
"""

Say = Callable[..., int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[Say]:
    """Run one in this process; any exception but an orderly end fails the test."""
    monkeypatch.setenv("POSTGRES_URL", "postgresql://postgres@127.0.0.1:1/none")

    def run(package: str, *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [package, *arguments])
        with pytest.raises(SystemExit) as ended:
            run_command(APPS[package])
        return int(ended.value.code or 0)

    yield run
    logs.configure("console", "error")


@pytest.fixture
def asked(command: Say, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Run one in this process, with servers to ask."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AFTERCOMMIT_LOG_FORMAT", "console")
    return command


def commands(app: typer.Typer) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Each command with its parameters."""
    yield from _below((), typer.main.get_command(app))


def _below(path: tuple[str, ...], found: Any) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    if isinstance(found, TyperGroup):
        for name, each in found.commands.items():
            yield from _below((*path, name), each)
    else:
        yield path, found.params


NUMERIC = ("int", "float", "list[int]")
CASES = [
    (package, path, parameter, params)
    for package, app in APPS.items()
    for path, params in commands(app)
    for parameter in params
    if parameter.bare_type() in NUMERIC
]


def call(path: tuple[str, ...], parameter: Any, params: list[Any], value: str) -> list[str]:
    """Return the command's arguments: this parameter with this value, and what else is required."""
    said = [*path]
    for each in params:
        option = each.opts[0]
        if each is parameter and each.param_type_name == "option":
            said += [f"{option}={value}"]
        elif each.required and each is not parameter:
            said += [option, SAID.get(option, "1")] if option.startswith("-") else ["1"]
    if parameter.param_type_name == "argument":
        said += ["--", value]
    return said


@pytest.mark.parametrize(
    ("package", "path", "parameter", "params"), CASES,
    ids=[f"{package} {' '.join(path)} {p.name}" for package, path, p, _ in CASES],
)  # fmt: skip
def test_no_number_is_taken_that_nothing_can_hold(
    command: Say, capsys: pytest.CaptureFixture[str],
    package: str, path: tuple[str, ...], parameter: Any, params: list[Any],
) -> None:  # fmt: skip
    """It is refused when it is parsed: nothing is started, asked or changed, and no role runs."""
    for value in NUMBERS:
        if (parameter.name, value) == ("seed", "-1"):
            continue  # any whole number is one
        if parameter.name == "seed" and value.isdigit():
            continue
        assert command(package, *call(path, parameter, params, value)) == 2, value
        told = capsys.readouterr()
        assert told.out == ""
        assert "Invalid value" in told.err
        name = parameter.opts[0] if path[-1:] != ("show",) else "ID"
        assert name.lower() in told.err.lower()


def test_there_are_as_many_numbers_as_are_known() -> None:
    """The walk over the commands finds their numbers."""
    assert len(CASES) > 40


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize(
    "which",
    [
        ("outbox", "audit", "--since"),
        ("outbox", "audit", "--until"),
        ("outbox", "replay", "preview", "--since"),
        ("consumers", "replay-preview", "--before"),
    ],
    ids=" ".join,
)
def test_no_time_is_taken_that_is_none(
    command: Say, capsys: pytest.CaptureFixture[str], which: tuple[str, ...], time: str
) -> None:
    assert command(*which, time) == 2
    told = capsys.readouterr()
    assert "neither an ISO time nor a duration" in " ".join(told.err.split())
    assert "\x1b[2J" not in told.err


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda each: " ".join(each[:3]))
def test_what_a_record_holds_neither_steers_a_terminal_nor_forges_a_line(
    asked: Say, capsys: pytest.CaptureFixture[str], postgres_url: str, question: tuple[str, ...]
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for statement in PLANT.split(";\n"):
            if statement.strip():
                connection.execute(
                    statement.encode(), {"h": HOSTILE, "k": KEY, "b": HOSTILE.encode()}
                )
        connection.execute("SELECT outbox.publish('catalog.item', 'k', 'catalog.x.v1', '{}')")
        connection.execute("UPDATE outbox.messages SET aggregateid = %s", [KEY])
    assert asked(*question) in (0, 1, 2)
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert text.replace("\n", "").isprintable()
        assert "\n2026-11-30 forged" not in text
    assert told.out or told.err


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda each: " ".join(each[:3]))
def test_without_a_database_it_is_one_line(
    command: Say, capsys: pytest.CaptureFixture[str], question: tuple[str, ...],
) -> None:  # fmt: skip
    assert command(*question) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
