"""A terminal shows every text unchanged, or escaped where it could steer the terminal."""

import pytest

from outbox.cli.console import print_table
from outbox.cli.doctor import _describe
from outbox.doctor import Check, CheckResult, Severity, SeverityPolicy


@pytest.mark.parametrize("key", ["c/[/x]", "[bold]k[/bold]", "[red]", "a\\[b]"])
def test_a_table_shows_brackets_as_they_are(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A key may hold them, and rich would take them for markup."""
    print_table(("key",), [(key,)])
    assert f" {key} " in capsys.readouterr().out


def test_a_finding_cannot_write_to_the_terminal_but_for_words() -> None:
    check = Check("a-check", SeverityPolicy.MILD, "nothing", "nothing")
    finding = CheckResult(check, Severity.WARNING, "by \x1b[2Jmönch\n", subject="gid\u202e")
    assert _describe(finding) == "gid\\u202e: by \\x1b[2Jmönch\\n"
