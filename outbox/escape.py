"""escape: any text as it may stand on a terminal or in a line of log.

Keys, headers, topics, reasons and the error texts of servers come from outside. Written raw, an ESC
in them steers the reader's terminal, a line break forges a line, and a mark that turns the
direction of writing shows another text than is there.
"""

import re

# Letters to Unicode, and nothing to the eye; `str.isprintable` tells all the others.
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0]")


def escape(text: str) -> str:
    r"""The same text on one line, each character that cannot be seen written as in Python: `\x1b`.

    Those are controls (C0, C1, DEL), line and paragraph separators, marks of direction, zero-width
    characters, lone surrogates, every space but the ordinary one, and what Unicode has not
    assigned. Weakness: a text that holds a backslash and `x1b` looks the same as one that holds an
    ESC; `--json` tells them apart.
    """
    if text.isprintable() and not BLANK.search(text):
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character.isprintable() and not BLANK.match(character):
        return character
    return ascii(character)[1:-1]
