"""FD2, FC7: after `logs.configure` each line that a process writes is one line of log."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
BEFORE = "import logging, logging.config, sys\nfrom outbox.runtime import logs\n"
CONFIGURE = "logs.configure('json', 'info')\n"
SAY = "logging.getLogger('lib.part').warning('said')\n"
TO_ERROR = "logging.getLogger('lib').addHandler(logging.StreamHandler())\n"
TO_OUTPUT = "logging.getLogger('lib').addHandler(logging.StreamHandler(sys.stdout))\n"
ALONE = "logging.getLogger('lib').propagate = False\n"
BASIC = "logging.basicConfig(level='INFO', force=True)\n"
OPENED = "logging.getLogger().addHandler(logging.FileHandler('/dev/stderr'))\n"
RICH = "from rich.logging import RichHandler\nlogging.getLogger().addHandler(RichHandler())\n"
DICT = """
logging.config.dictConfig({
    "version": 1, "disable_existing_loggers": False,
    "handlers": {"h": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["h"]}, "loggers": {"lib": {"handlers": ["h"], "propagate": False}},
})
"""
HANDLERS = {
    "on a logger": TO_ERROR, "on standard output": TO_OUTPUT, "alone": TO_ERROR + ALONE,
    "basicConfig": BASIC, "dictConfig": DICT, "/dev/stderr": OPENED, "rich": RICH,
    "several": TO_ERROR + BASIC + TO_OUTPUT + DICT,
}  # fmt: skip


def lines_of(script: str, code: int = 0) -> list[str]:
    """Run the script, and return the lines that it writes to both streams."""
    ran = subprocess.run(
        [sys.executable, "-c", BEFORE + script], check=False, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert ran.returncode == code, ran.stdout
    return ran.stdout.splitlines()


def events_of(script: str, code: int = 0) -> list[str]:
    """Run the script, parse each line as JSON, and return the events."""
    return [json.loads(line)["event"] for line in lines_of(script, code)]


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_handler_of_a_library_says_no_line_twice(handler: str, when: str) -> None:
    script = handler + CONFIGURE if when == "before" else CONFIGURE + handler
    assert events_of(script + SAY) == ["said"]


def test_a_handler_that_writes_to_a_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "log"
    add = f"logging.getLogger('lib').addHandler(logging.FileHandler({str(file)!r}))\n"
    assert events_of(add + CONFIGURE + SAY) == ["said"]
    assert file.read_text(encoding="utf-8") == "said\n"


def test_a_logger_that_was_silenced_stays_so() -> None:
    silence = "logging.getLogger('lib').addHandler(logging.NullHandler())\n" + ALONE
    assert events_of(silence + CONFIGURE + SAY) == []


RAISING = {
    "warning": ("import warnings; warnings.warn('a\\nforged')", 0, "UserWarning: a"),
    "end": ("raise RuntimeError('a\\nforged')", 1, "uncaught exception"),
    "thread": (
        "import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
        0,
        "uncaught exception",
    ),
    "finalizer": (
        "class D:\n    def __del__(self): raise RuntimeError('a\\nforged')\nD()",
        0,
        "exception ignored in",
    ),
    "task": (
        "import asyncio\nasync def main():\n"
        "    task = asyncio.ensure_future(asyncio.sleep(0, 1 / 1))\n"
        "    async def fail(): raise ValueError('a\\nforged')\n"
        "    task = asyncio.ensure_future(fail()); await asyncio.sleep(0); await asyncio.sleep(0)\n"
        "asyncio.run(main())",
        0,
        "Task exception was never retrieved",
    ),
    "print": ("print('a library', file=sys.stderr)", 0, "a library"),
    "half a line": ("sys.stderr.write('no end')", 0, "no end"),
    "a line that cannot be made": ("logging.getLogger('x').error('%s %s', 1)", 0, "%s %s"),
}


@pytest.mark.parametrize(("script", "code", "event"), RAISING.values(), ids=RAISING)
def test_what_python_says_by_itself_is_one_line_of_json(script: str, code: int, event: str) -> None:
    events = events_of(CONFIGURE + script, code)
    assert len(events) == 1
    assert event in events[0]


ODD = """
import structlog
class Bad:
    def __repr__(self): return "bad\\x1b[2J"
circle = []; circle.append(circle)
values = dict(key="k\\x1b[31m\\nforged", nan=float("nan"), pairs={("a", 1): "\\x9b"}, bad=Bad(),
              circle=circle, turned="a\\u202e b", half="\\udcff")
structlog.get_logger().error("event\\x1b\\n2026-11-30 forged", **values)
try:
    raise ValueError("first\\n2026-11-30T00:00:00Z [error    ] forged\\x1b[2J")
except ValueError:
    structlog.get_logger().exception("failed")
logging.getLogger("lib").error("lib\\x1b %s", "a\\n2026-11-30 forged")
"""


def test_values_of_any_kind_are_one_line_of_json_in_ascii() -> None:
    lines = lines_of(CONFIGURE + ODD)
    assert [json.loads(line, parse_constant=pytest.fail)["event"] for line in lines] == [
        "event\x1b\n2026-11-30 forged", "failed", "lib\x1b a\n2026-11-30 forged",
    ]  # fmt: skip
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert json.loads(lines[0])["key"] == "k\x1b[31m\nforged"


def test_no_value_steers_a_console_or_forges_a_line() -> None:
    lines = lines_of("logs.configure('console', 'info')\n" + ODD)
    assert all(line.isprintable() for line in lines)
    ours = [line for line in lines if not line.startswith("    ")]
    assert len(ours) == 3
    assert all(line[:2] == "20" and " [error " in line[:45] for line in ours)


def test_a_role_that_halts_says_so_in_json() -> None:
    script = (
        "from outbox.runtime.lifecycle import run_role\nfrom outbox.errors import Halted\n"
        "from outbox.settings import Settings\n"
        "async def role(): raise Halted('stop\\x1b first')\n"
        "run_role(Settings(log_format='json'), role, lambda: None)"
    )
    assert events_of(script, 3) == ["stop\x1b first"]
    console = lines_of(script.replace("'json'", "'console'"), 3)
    assert console == ["stop\\x1b first"]
