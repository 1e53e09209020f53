"""Skips: which tests were skipped, why, and whether that is allowed; a plugin of pytest.

With STRICT_SKIPS=1, as in CI, a skip that tests/allowed_skips.txt does not list fails the run.
INSTALLED names the packages that .ci/run has installed; a skip for want of one is not allowed.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

LIST = Path(os.environ.get("ALLOWED_SKIPS", Path(__file__).parents[1] / "allowed_skips.txt"))
REASON = "Skipped: "


@dataclass(frozen=True)
class Skip:
    """A test that did not run, by its node id, and the reason it gave."""

    test: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """Patterns of an allowed skip; `unless_installed` is a package that makes it forbidden."""

    test: str
    reason: str
    unless_installed: str = ""

    def allows(self, skip: Skip, installed: Iterable[str]) -> bool:
        here = fnmatchcase(skip.test, self.test) and fnmatchcase(skip.reason, self.reason)
        return here and self.unless_installed not in installed


def entries(text: str) -> Iterator[Entry]:
    """Yield the entries of the list, one a line; a line that begins with `#` is a comment."""
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield Entry(*(column.strip() for column in line.split("|")))


def forbidden(
    skips: Iterable[Skip], allowed: Iterable[Entry], installed: Iterable[str]
) -> list[Skip]:
    """Return the skips that no entry allows."""
    known, there = list(allowed), list(installed)
    return [skip for skip in skips if not any(entry.allows(skip, there) for entry in known)]


def skipped(config: pytest.Config) -> list[Skip]:
    """Return all skips of this run, those of its worker processes too."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return []
    return [Skip(report.nodeid, _reason(report)) for report in reporter.stats.get("skipped", ())]


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return text.removeprefix(REASON)


def not_allowed(config: pytest.Config) -> list[Skip]:
    if os.environ.get("STRICT_SKIPS") != "1":
        return []
    text = LIST.read_text(encoding="utf-8")
    return forbidden(skipped(config), entries(text), os.environ.get("INSTALLED", "").split())


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run, in the process that writes the report, where a skip is not allowed."""
    is_worker = hasattr(session.config, "workeroutput")
    if not is_worker and session.exitstatus == pytest.ExitCode.OK and not_allowed(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    wrong = not_allowed(terminalreporter.config)
    if wrong:
        terminalreporter.section("skips that are not allowed", red=True, bold=True)
    for skip in wrong:
        terminalreporter.write_line(f"{skip.test}: {skip.reason}")
    if wrong:
        terminalreporter.write_line("run them, or list them with their reason in " + str(LIST))
