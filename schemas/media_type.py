"""MediaType: what a content type says of a record, and which ones we read.

Media types are compared without case and without their parameters, as RFC 9110 says. Structured
mode is `application/cloudevents+json`. In binary mode the content type is the payload's, which must
be JSON; a record that names none is taken for JSON, as CloudEvents says of its JSON format.
"""

from functools import lru_cache

from schemas.errors import build_rejection
from schemas.strict_json import make_printable

STRUCTURED = "application/cloudevents+json"
_CLOUDEVENTS = "application/cloudevents"
ACCEPTED = f"JSON in binary mode, or {STRUCTURED}"


@lru_cache(maxsize=1_024)
def is_structured(content_type: str) -> bool:
    """Whether the record's value is a whole event; MessageRejected for a format that we lack."""
    name = media_type(content_type)
    if name == STRUCTURED:
        return True
    if name.startswith(f"{_CLOUDEVENTS}-batch"):
        rule = f"{make_printable(name)} is a batch of events; accepted is one a record: {ACCEPTED}"
        raise build_rejection("envelope", "content-type", rule)
    if name.startswith(_CLOUDEVENTS):
        raise build_rejection(
            "envelope", "content-type", f"{_unread(name)}; accepted is {ACCEPTED}"
        )
    return False


@lru_cache(maxsize=1_024)
def require_json(content_type: str, field: str = "content-type") -> None:
    """MessageRejected that names a content type which is not JSON."""
    name = media_type(content_type)
    if name and name not in ("application/json", "text/json") and not name.endswith("+json"):
        raise build_rejection("envelope", field, f"{_unread(name)}; accepted is {ACCEPTED}")


def media_type(content_type: str) -> str:
    """`Application/JSON; charset=UTF-8` is `application/json`."""
    return content_type.partition(";")[0].strip().lower()


def _unread(name: str) -> str:
    return f"{make_printable(name)} is a format that is not read here"
