"""Extensions: the attributes of a CloudEvent that the specification leaves to the sender.

A writer gives them beside a message (`headers => '{"tenant": "a"}'`). They travel as `ce_tenant` in
binary mode and as a member `tenant` in structured mode, and a reader finds them in
`Envelope.extensions`. Registered extensions (`partitionkey`, `dataschema`, `tracestate`) are
treated like all others. The messages that a message causes do not inherit them.
"""

import re
from collections.abc import Iterator, Mapping

from schemas.errors import build_rejection
from schemas.limits import ATTRIBUTE_BYTES, EXTENSION_NAME_CHARACTERS, EXTENSIONS, fits_attribute

# Our own attributes that travel in a header without the prefix `ce_`.
TRACING = ("correlationid", "causationid", "traceparent")
# The names that no extension may have, because a reader takes them for something else.
RESERVED = frozenset(
    {
        "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data",
        "sequence", "position", "term", "replayfor", *TRACING,
    }
)  # fmt: skip

_is_word = re.compile(f"[a-z0-9]{{1,{EXTENSION_NAME_CHARACTERS}}}").fullmatch


class Extensions(Mapping[str, str]):
    """Texts by name, in the order of the names; frozen, and valid by construction.

    The constructor raises MessageRejected where some reader would refuse a name or a text, or where
    there are too many.
    """

    __slots__ = ("_pairs",)

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self._pairs: dict[str, str] = dict(sorted((given or {}).items()))
        for name, text in self._pairs.items():
            _require(name, text)
        if len(self._pairs) > EXTENSIONS:
            raise build_rejection("envelope", "extensions", f"at most {EXTENSIONS}")

    def __getitem__(self, name: str) -> str:
        return self._pairs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __hash__(self) -> int:
        return hash(tuple(self._pairs.items()))

    def __repr__(self) -> str:
        return f"Extensions({self._pairs!r})"


NO_EXTENSIONS = Extensions()


def is_name(name: str) -> bool:
    """Whether an extension may have this name: CloudEvents allows it, and it is not reserved."""
    return _is_word(name) is not None and name not in RESERVED


def keep_readable(given: Mapping[str, object]) -> Extensions:
    """Those of `given` whose name and value are valid; the others are dropped without an error."""
    found = {
        name: text
        for name, text in sorted(given.items())
        if isinstance(text, str) and is_name(name) and fits_attribute(text)
    }
    return Extensions(dict(list(found.items())[:EXTENSIONS])) if found else NO_EXTENSIONS


def _require(name: str, text: str) -> None:
    if not is_name(name):
        rule = f"a name has 1 to {EXTENSION_NAME_CHARACTERS} of a-z and 0-9, and is not reserved"
        raise build_rejection("envelope", ascii(name)[1:-1][:100] or "''", rule)
    if not fits_attribute(text):
        rule = f"must be text of at most {ATTRIBUTE_BYTES} bytes without control characters"
        raise build_rejection("envelope", name, rule)
