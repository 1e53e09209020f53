"""SqlFile: the statements of a module, from the file of the same name that ends in .sql.

A file holds sections. Each begins with a line `-- name: take_lease`; what stands above the first
one is for its reader. A section may stand inside a later one: `{columns}` is replaced by the
section of that name, or by a text that the module gives. Nothing else is ever put into a statement;
values are parameters. Lines that are only a comment are not sent to PostgreSQL.

A mistake in a file (a name that is twice there, or nowhere) is an error at import.
"""

import re
from pathlib import Path

SECTION = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)
INCLUDED = re.compile(r"\{([a-z_]+)\}")
COMMENT = re.compile(r"^ *--.*\n?", re.MULTILINE)


def read_statements(module_file: str, **texts: bytes) -> dict[str, bytes]:
    """Return the sections of the .sql file beside `module_file`, by name; pass `__file__`.

    `texts` are sections of other files that this one uses. Raises ValueError where the file is
    not as this module's docstring says, and OSError where there is none.
    """
    path = Path(module_file).with_suffix(".sql")
    _, *parts = SECTION.split(path.read_text(encoding="utf-8"))
    found = {name: text.decode() for name, text in texts.items()}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        if name in found:
            raise ValueError(f"{path.name}: the section {name} is there twice")
        found[name] = _include(path, found, COMMENT.sub("", text).strip())
    return {name: text.encode() for name, text in found.items() if name not in texts}


def _include(path: Path, found: dict[str, str], text: str) -> str:
    unknown = [name for name in INCLUDED.findall(text) if name not in found]
    if unknown:
        raise ValueError(f"{path.name}: no section before it is named {', '.join(unknown)}")
    return INCLUDED.sub(lambda match: found[match[1]], text)
