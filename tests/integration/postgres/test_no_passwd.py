"""FC3: a user id without an entry in the passwd file, as in `docker run --user 54321`."""

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from consumers.settings import Settings
from outbox.environment import operator as module
from outbox.environment.operator import name_operator
from tests.kit.load.role import environment
from tests.kit.operations.command_line import PARK

ROOT = Path(__file__).parents[3]
UID = 54321
# The interpreter may lie in a home folder that is closed to others: reading is allowed, no more.
READING = "+dac_override,+dac_read_search"
NAMED = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CACHE_HOME")

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)


def as_nobody_known(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it under that id, without HOME or a name, in the C locale."""
    variables = environment(settings) | {
        "LANG": "C",
        "LC_ALL": "C",
        "AFTERCOMMIT_LOG_FORMAT": "console",
    }
    return subprocess.run(
        [
            shutil.which("setpriv") or "", f"--reuid={UID}", f"--regid={UID}", "--clear-groups",
            f"--inh-caps={READING}", f"--ambient-caps={READING}", sys.executable, "-m", *arguments,
        ],
        env={name: value for name, value in variables.items() if name not in NAMED},
        capture_output=True, text=True, check=False, timeout=120, cwd=ROOT,
    )  # fmt: skip


COMMANDS = {
    "status": ("outbox", "status"),
    "all migrations": ("services", "migrate"),
    "partitions": ("outbox", "partitions"),
    "replay preview": ("outbox", "replay", "preview", "--all"),
    "audit": ("outbox", "audit"),
    "reconcile": ("outbox", "reconcile", "--reason", "x", "--dry-run"),
    "dead letters": ("consumers", "dead-letters"),
    "drift": ("consumers", "drift", "check", "--projection", "neo4j", "--patience", "0"),
}


@needs_root
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_works(settings: Settings, command: tuple[str, ...]) -> None:
    ran = as_nobody_known(settings, *command)
    answered = (0, 1) if "drift" in command else (0,)  # the graph may hold what others left
    assert ran.returncode in answered, ran.stderr
    assert "Traceback" not in ran.stderr


@needs_root
def test_doctor_answers(settings: Settings) -> None:
    ran = as_nobody_known(settings, "outbox", "doctor")
    assert ran.returncode in (0, 1), ran.stderr
    assert (ran.stderr, "(profile development)" in ran.stdout) == ("", True)


@needs_root
def test_an_operation_names_the_id(settings: Settings, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(PARK)
        ran = as_nobody_known(settings, "outbox", "parked", "discard", "--all", "--reason", "x")
        assert ran.returncode == 0, ran.stderr
        recorded = connection.execute("SELECT operator FROM outbox.operations").fetchall()
    assert recorded == [(f"uid-{UID}@{os.uname().nodename}",)]


@needs_root
def test_the_stack_says_in_one_line_what_it_lacks(settings: Settings) -> None:
    """PostgreSQL's own initdb refuses an id without a name."""
    ran = as_nobody_known(
        settings.model_copy(update={"postgres_url": type(settings.postgres_url)("")}),
        "stack", "up",
    )  # fmt: skip
    assert ran.returncode == 1
    line = ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr
    assert f"user id {UID}, which has no entry in the passwd file: add one, or set" in line


@pytest.mark.parametrize("error", [KeyError("uid"), OSError("no name"), ImportError("pwd")])
def test_whatever_python_raises_the_id_stands_for_the_name(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python raises KeyError until 3.12, and OSError from 3.13 on."""

    def refuse() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", refuse)
    assert name_operator().startswith(f"uid-{os.getuid()}@")


def test_a_hostile_name_is_recorded_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "a\x1b[2J\udcff" + "x" * 300)
    assert name_operator().startswith("a\\x1b[2J\\udcffxxx")
    assert len(name_operator()) == module.MAX_CHARACTERS
