"""FD2, FC7: tables and lines hold whole values, on a terminal, in a pipe and in plain ASCII."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from outbox.runtime.output import EXIT_NOBODY_READS, print_table, say, say_json
from tests.kit.terminal import shown_on_terminal

ROOT = Path(__file__).parents[4]
KEY = "customer-0123456789/" + "x" * 150 + "/the-end"
COLUMNS = ("aggregate", "key", "topic", "reason", "attempts", "messages", "parked at")
ROW = ("sales.customer", KEY, "sales.customer.events", "too-large", 12, 3_456, "2026-11-30 12:00")
SCRIPT = f"from outbox.runtime.output import print_table; print_table({COLUMNS!r}, [{ROW!r}] * 3)"
TABLE = [sys.executable, "-c", SCRIPT]
# The one module that writes, and those that may write as well, each with its reason.
MAY_WRITE = {
    "outbox/runtime/output.py",
    "outbox/runtime/logged_stream.py",  # stands in for standard error
    "outbox/runtime/log_hooks.py",  # replaces standard error by it
    "schemas/__main__.py",  # below the outbox; names of our own classes only
}
WRITERS = {"print", "echo", "secho", "Console"}


def test_a_pipe_gets_each_row_whole_on_one_line() -> None:
    ran = subprocess.run(TABLE, capture_output=True, text=True, check=True, cwd=ROOT)
    lines = ran.stdout.splitlines()
    assert len(lines) == 5
    assert all(KEY in line and "sales.customer.events" in line for line in lines[2:])
    assert "…" not in ran.stdout
    assert ran.stdout.isascii()


@pytest.mark.parametrize("columns", [20, 40, 80, 132])
def test_a_terminal_wraps_keys_and_cuts_none(columns: int) -> None:
    shown = shown_on_terminal(TABLE, columns)
    assert not {"…", "\x1b"}.intersection(shown)
    pieces = [line.split("│")[2].strip() for line in shown.splitlines() if line.count("│") == 8]
    joined = "".join(pieces) if pieces else "".join(shown.split())
    assert joined.count(KEY) == 3


def test_a_terminal_of_another_width_is_taken_from_COLUMNS() -> None:  # noqa: N802 - a variable
    shown = shown_on_terminal(TABLE, 80, COLUMNS="200")
    assert max(map(len, shown.splitlines())) in range(150, 201)


def test_numbers_stand_on_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "count"), [("a", "1,234"), ("b", 5), ("c", "-")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.rindex(end) for line, end in zip(lines[2:], ("4", "5", "-"), strict=True)] == [
        len(lines[0]) - 3
    ] * 3


def test_a_terminal_of_ascii_gets_no_other_lines_and_no_traceback() -> None:
    script = (
        "from outbox.runtime.lifecycle import run_command\n"
        "from outbox.runtime.output import print_table\n"
    )
    script += f"run_command(lambda: print_table(({'clé'!a}, 'n'), [({'漢 Zoë'!a}, 1)]))"
    run = [sys.executable, "-c", script]
    shown = shown_on_terminal(run, 80, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert shown.isascii()
    assert "\\u6f22 Zo\\xeb" in shown
    assert "+--" in shown
    assert len({len(line) for line in shown.splitlines()}) == 1


@pytest.mark.parametrize("command", ["outbox", "services", "consumers", "web", "stack", "bench"])
def test_help_is_shown_where_only_ascii_is_taken(command: str) -> None:
    """FD3: many containers, and cron, run programs with LANG=C."""
    variables = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    for errors in ("ascii", "ascii:strict"):
        run = subprocess.run(
            [sys.executable, "-m", command, "--help"], capture_output=True, check=False, cwd=ROOT,
            env=os.environ | variables | {"PYTHONIOENCODING": errors},
        )  # fmt: skip
        assert (run.returncode, run.stderr) == (0, b"")
        assert run.stdout.isascii()
        assert b"Usage" in run.stdout


def test_a_reader_that_goes_ends_the_program_as_SIGPIPE_would() -> None:  # noqa: N802 - a signal
    """FD3: with `| head -1` there is no traceback, and the exit code is that of SIGPIPE."""
    many = (
        "from outbox.runtime.lifecycle import run_command; from outbox.runtime.output import say\n"
    )
    many += "run_command(lambda: [say('x' * 1000) for _ in range(10_000)])"
    with subprocess.Popen(
        [sys.executable, "-c", many], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == EXIT_NOBODY_READS


def test_a_full_disk_is_one_line() -> None:
    script = (
        "from outbox.runtime.lifecycle import run_command; from outbox.runtime.output import say\n"
    )
    script += "run_command(lambda: say('x'))"
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True,
            check=False, cwd=ROOT,
        )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr == "standard output cannot be written: No space left on device\n"


def test_a_line_cannot_be_ended_or_steered_from_outside(capsys: pytest.CaptureFixture[str]) -> None:
    say("key a\x1b[2J\nforged\u202e", error=True)
    say("key a\x1b[2J\nforged\u202e")
    print_table(("k\x1b",), [("\x1b]0;title\x07\nforged",)], title="t\x9b")
    written = capsys.readouterr()
    assert written.err == "key a\\x1b[2J\\nforged\\u202e\n"
    assert written.out.splitlines()[:2] == [written.err.strip(), "t\\x9b"]
    assert "\\x1b]0;title\\x07\\nforged" in written.out
    assert written.out.replace("\n", "").isprintable()


def test_json_is_exact_and_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"key": "\x1b\u202e\u2028\x9b漢\n"})
    assert capsys.readouterr().out == '{"key": "\\u001b\\u202e\\u2028\\u009b\\u6f22\\n"}\n'


def test_nothing_is_printed_from_outside_the_one_place() -> None:
    """FC7: code that prints past it will forget to escape some day."""
    places = {str(path.relative_to(ROOT)): list(_writes(path)) for path in _sources()}
    assert {name: found for name, found in places.items() if found and name not in MAY_WRITE} == {}
    assert places["outbox/runtime/output.py"]  # the search finds something at all


def _sources() -> Iterator[Path]:
    for package in (
        "outbox",
        "services",
        "consumers",
        "web",
        "stack",
        "bench",
        "schemas",
        "scripts",
    ):
        yield from (ROOT / package).rglob("*.py")


def _writes(path: Path) -> Iterator[str]:
    """Yield calls that print, and uses of a standard stream except to ask it or to read."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
            if name in WRITERS or (_dotted(node.func).startswith(STREAMS) and name not in ASKED):
                yield f"{node.lineno}: {_dotted(node.func)}"
            yield from (
                f"{node.lineno}: {_dotted(each)}"
                for each in _arguments(node)
                if _dotted(each).startswith(STREAMS)
            )


STREAMS = ("sys.stdout", "sys.stderr", "sys.__std")
ASKED = {"isatty", "flush", "fileno"}


def _arguments(node: ast.Call) -> Sequence[ast.expr]:
    return [*node.args, *(each.value for each in node.keywords)]


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
