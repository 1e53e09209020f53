"""Lines at the end of the tests' report: what stood behind each part, counts and seeds.

With several processes (pytest-xdist) each collects its own lines; the one that writes the report
joins them.
"""

from collections import defaultdict
from typing import Any

import pytest

FAILPOINT_KILLS = "kill -9 at failpoints"
PROVIDERS = "providers"
COUNTS = "seeds and counts"

_lines: dict[str, list[str]] = defaultdict(list)


def say(section: str, line: str) -> None:
    """Add a line to a section; the same line is shown once."""
    _lines[section].append(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker, hand the lines over."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["lines"] = dict(_lines)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the process that writes the report, take the lines of a worker."""
    for section, lines in getattr(node, "workeroutput", {}).get("lines", {}).items():
        _lines[section] += lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for section, lines in sorted(_lines.items()):
        terminalreporter.section(section)
        for line in dict.fromkeys(lines):
            terminalreporter.write_line(line)
