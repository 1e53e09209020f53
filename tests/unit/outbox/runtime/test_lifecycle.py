"""Lifecycle: the exit code and the line of each error that ends a role or a command."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
SCRIPT = """
from outbox.errors import *
from outbox.runtime.lifecycle import answer, run_role
from outbox.settings import Settings

async def work(): raise {error}

settings = Settings(log_format="console")
"""
AS_ROLE = "run_role(settings, work, lambda: None)"
AS_COMMAND = "answer(settings, work())"
HALTING = {
    "Halted('stop it first')": "stop it first",
    "StoreUnfit('no collection: restore it')": "no collection: restore it",
    "SchemaBehind('run the migrations')": "run the migrations",
}
ANSWERED = HALTING | {
    "InvalidInput('replay', 'id', 'must be that of a replay')": (
        "replay: id: must be that of a replay"
    ),
    "build_rejection('schema', 'name', 'must be text')": "schema: name: must be text",
    "DependencyDown('kafka', 'away')": "kafka is down (away)",
}


def end(error: str, how: str) -> tuple[int, str, str]:
    """Return the exit code and both outputs of a process that ends by this error."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(error=error) + how], capture_output=True, text=True,
        check=False, cwd=ROOT,
    )  # fmt: skip
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize("error", HALTING)
def test_a_role_that_only_an_operator_can_help_says_why_and_ends_with_3(error: str) -> None:
    assert end(error, AS_ROLE) == (3, "", f"{HALTING[error]}\n")


@pytest.mark.parametrize("error", ["InvalidInput('a', 'b', 'c')", "build_rejection('a', 'b', 'c')"])
def test_what_no_role_should_meet_is_no_halt(error: str) -> None:
    code, _, said = end(error, AS_ROLE)
    assert code == 1
    assert "Traceback" in said


@pytest.mark.parametrize("error", ANSWERED)
def test_a_command_that_cannot_answer_says_why_and_ends_with_2(error: str) -> None:
    assert end(error, AS_COMMAND) == (2, "", f"{ANSWERED[error]}\n")
