"""`python -m schemas [--check]`: write a JSON Schema for each type, or compare them with the code.

The check also refuses a change that would break somebody within a major version; see
`schemas.compatibility`.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from schemas.compatibility.check import find_command_breaks, find_event_breaks
from schemas.envelope import Event
from schemas.registry import REGISTRY, AnyMessage

FOLDER = Path(__file__).parent / "json"
CHECK = "--check"
# What a comparison may raise if an editor or a merge has damaged the committed file.
NOT_A_SCHEMA = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, re.error,
)  # fmt: skip


def render(cls: AnyMessage) -> str:
    """The JSON Schema of one type, as the text of its committed file."""
    schema = {"$id": cls.type, "x-topic": cls.topic} | cls.model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """Write every schema; where that would break a committed one, write none and exit."""
    complaints = [c for cls in REGISTRY for c in _find_breaks(folder, cls)]
    if complaints:
        raise SystemExit("\n".join(complaints))
    for cls in REGISTRY:
        (folder / f"{cls.type}.json").write_text(render(cls), encoding="utf-8")


def check(folder: Path) -> list[str]:
    """Each disagreement between the committed schemas and the code, as a line; empty if none."""
    expected = {f"{cls.type}.json": render(cls) for cls in REGISTRY}
    committed = {path.name: _read_text(path) for path in folder.glob("*.json") if path.is_file()}
    gone = [f"{name}: no such type in the code" for name in sorted(committed.keys() - expected)]
    stale = [
        f"{name}: differs from the code; run `make schemas`"
        for name, text in expected.items()
        if committed.get(name) != text
    ]
    return gone + stale + [c for cls in REGISTRY for c in _find_breaks(folder, cls)]


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _find_breaks(folder: Path, cls: AnyMessage) -> list[str]:
    path = folder / f"{cls.type}.json"
    if not path.exists():
        return []
    find_breaks = find_event_breaks if issubclass(cls, Event) else find_command_breaks
    try:
        old: dict[str, Any] = json.loads(_read_text(path))
        return [f"{cls.type}: {change}" for change in find_breaks(old, json.loads(render(cls)))]
    except NOT_A_SCHEMA as error:
        why = f"{type(error).__name__} {error}"[:100].replace("\n", " ")
        return [f"{path.name}: must be a JSON Schema ({why}); restore it as it was committed"]


def main(arguments: list[str]) -> int:
    """Run the command; return 1 where schemas and code disagree, 2 for an unknown option."""
    if unknown := [each for each in arguments if each != CHECK]:
        sys.stderr.write(f"{unknown[0]!a}: must be {CHECK}, or nothing at all\n")
        return 2
    if not arguments:
        write(FOLDER)
        return 0
    complaints = check(FOLDER)
    sys.stdout.write("".join(f"{line}\n" for line in complaints or ["schemas: agree"]))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
