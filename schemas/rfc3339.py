"""RFC 3339: times as an event may write them, and as we do."""

import re
from datetime import UTC, datetime

from schemas.errors import build_rejection

# A lower-case t and z are allowed, so is any number of digits of a second, and its 61st.
_LEAP_SECOND = re.compile(r"(.{10}[Tt ]\d\d:\d\d:)60(?:\.\d+)?(.*)", re.ASCII)


def write(time: datetime) -> str:
    """In UTC with microseconds, as `ce_time` carries it."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read(text: str) -> datetime:
    """The time, to the microsecond below; a leap second is the last microsecond before it ends.

    MessageRejected where it is none. Without an offset it is taken for UTC.
    """
    if leap := _LEAP_SECOND.fullmatch(text):
        text = f"{leap[1]}59.999999{leap[2]}"
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        raise build_rejection("envelope", "time", "must be RFC 3339") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
