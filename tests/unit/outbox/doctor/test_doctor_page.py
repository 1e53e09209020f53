"""The page that lists doctor's checks cannot go stale."""

import pytest
from typer import BadParameter

from outbox.doctor import CHECKS, Check, SeverityPolicy
from outbox.settings import Settings
from scripts.doctor_page import FILE, fill

PAGE = "# Doctor\n\nWords.\n\n## Checks\n\n| old |\n|---|\n| row |\n\nMore words.\n"


def test_the_page_has_every_check_as_it_is() -> None:
    document = FILE.read_text(encoding="utf-8")
    assert fill(document) == document, "run `python -m scripts.doctor_page`"
    assert all(f"| `{check.name}` |" in document for check in CHECKS)


def test_the_page_has_every_setting_of_doctor_with_its_default() -> None:
    document = FILE.read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        if name.startswith("doctor_"):
            assert f"| `AFTERCOMMIT_{name.upper()}` | {field.default:g} |" in document


def test_only_the_table_is_renewed() -> None:
    check = Check("a-check", SeverityPolicy.GRAVE, "a | b", "kill <pid>")
    page = fill(PAGE, [check])
    row = r"| `a-check` | warning, in production a failure | a \| b | kill \<pid> |"
    assert page.startswith("# Doctor\n\nWords.\n\n## Checks\n\n| check |")
    assert page.endswith(f"|---|---|---|---|\n{row}\n\nMore words.\n")
    assert fill(page, [check]) == page


def test_a_page_without_the_heading_is_refused() -> None:
    with pytest.raises(BadParameter):
        fill("# Doctor\n")
