"""What the tests say at the end of their report: who stood behind each part, counts, seeds.

With several processes (pytest-xdist) each tells its own; the one that writes the report joins them.
"""

from collections import defaultdict
from typing import Any

import pytest

FAILPOINT_KILLS = "kill -9 at failpoints"
PROVIDERS = "providers"
COUNTS = "seeds and counts"

_said: dict[str, list[str]] = defaultdict(list)


def say(section: str, line: str) -> None:
    """Add a line to a section; the same line is shown once."""
    _said[section].append(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker: hand over what was said."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["said"] = dict(_said)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the process that writes the report: take over what a worker has said."""
    for section, lines in getattr(node, "workeroutput", {}).get("said", {}).items():
        _said[section] += lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for section, lines in sorted(_said.items()):
        terminalreporter.section(section)
        for line in dict.fromkeys(lines):
            terminalreporter.write_line(line)
