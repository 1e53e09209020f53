"""FC7: no text from outside steers a terminal or forges a line."""

import sys
import unicodedata

import pytest

from outbox.escape import escape

HOSTILE = [*range(0x20), *range(0x7F, 0xA1), 0xAD, 0x61C, *range(0x200B, 0x2010), 0x2028, 0x2029]
HOSTILE += [*range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF, 0x3164, 0xD800, 0xDFFF, 0xE0041]


@pytest.mark.parametrize("point", HOSTILE, ids=hex)
def test_what_cannot_be_seen_is_written_with_a_backslash(point: int) -> None:
    shown = escape(f"a{chr(point)}b")
    assert shown.isascii()
    assert shown.startswith("a\\")
    assert shown.endswith("b")


def test_no_character_of_unicode_passes_that_controls_or_formats() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    passed = {unicodedata.category(character) for character in escape(every)}
    assert not passed & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize("text", ["", "c/1", "Zoë 漢字 🛫", "a\\[b]", "[red]", "naïve “quoted”"])
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert escape(text) == text
