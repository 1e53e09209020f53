"""Escape: makes any text safe to show on a terminal or in a line of log.

Keys, headers, topics, reasons and the error texts of servers come from outside. Written unchanged,
an ESC in them steers the reader's terminal, a line break forges a line, and a mark that changes the
direction of writing shows another text than is there.
"""

import re

# Unicode counts these as visible, but they show nothing; `str.isprintable` finds all others.
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0]")


def escape(text: str) -> str:
    r"""Return the text on one line, each invisible character written in Python's form: `\x1b`.

    Those are controls (C0, C1, DEL), line and paragraph separators, marks of direction, zero-width
    characters, lone surrogates, every space but the ordinary one, and what Unicode has not
    assigned. Weakness: a text that holds a backslash and `x1b` looks the same as one that holds an
    ESC; `--json` tells them apart.
    """
    if text.isprintable() and not BLANK.search(text):
        return text
    return "".join(_escape_character(character) for character in text)


def _escape_character(character: str) -> str:
    if character.isprintable() and not BLANK.match(character):
        return character
    return ascii(character)[1:-1]
