"""Media types: what a content type says about a record, and which content types we read.

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
    """Whether the record's value is a whole event.

    Raises MessageRejected for a batch of events and for an event format other than JSON.
    """
    name = normalize_media_type(content_type)
    if name == STRUCTURED:
        return True
    if name.startswith(f"{_CLOUDEVENTS}-batch"):
        rule = f"{make_printable(name)} is a batch of events; accepted is one a record: {ACCEPTED}"
        raise build_rejection("envelope", "content-type", rule)
    if name.startswith(_CLOUDEVENTS):
        raise build_rejection("envelope", "content-type", _describe_unread(name))
    return False


@lru_cache(maxsize=1_024)
def require_json(content_type: str, field: str = "content-type") -> None:
    """Raise MessageRejected, naming the content type, unless the content type is JSON.

    An empty one counts as JSON. `field` is the violation's field.
    """
    name = normalize_media_type(content_type)
    if name and name not in ("application/json", "text/json") and not name.endswith("+json"):
        raise build_rejection("envelope", field, _describe_unread(name))


def normalize_media_type(content_type: str) -> str:
    """The media type in lower case: `Application/JSON; charset=UTF-8` is `application/json`."""
    return content_type.partition(";")[0].strip().lower()


def _describe_unread(name: str) -> str:
    return f"{make_printable(name)} is a format that is not read here; accepted is {ACCEPTED}"
