"""RFC 3339: the forms in which an event may write a time, and the one form in which we write it."""

import re
from datetime import UTC, datetime

from schemas.errors import build_rejection

# RFC 3339 allows a lower-case t and z, any number of digits of a second, and a 61st second.
_LEAP_SECOND = re.compile(r"(.{10}[Tt ]\d\d:\d\d:)60(?:\.\d+)?(.*)", re.ASCII)


def format_time(time: datetime) -> str:
    """The time in UTC with microseconds, which is the form of `ce_time`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """The time that a text names, rounded down to the microsecond; a text without offset is UTC.

    A leap second becomes the last microsecond of the second before it. Raises MessageRejected where
    the text is no time of RFC 3339.
    """
    if leap := _LEAP_SECOND.fullmatch(text):
        text = f"{leap[1]}59.999999{leap[2]}"
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        raise build_rejection("envelope", "time", "must be RFC 3339") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
