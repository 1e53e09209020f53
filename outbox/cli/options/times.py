"""Options that take times: an ISO time, or a duration before now such as 90s or 1h."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from outbox.escape import escape

Since = Annotated[
    str | None,
    typer.Option(help="From this ISO time on (UTC if it names no zone), or so long ago: 1h."),
]
Before = Annotated[str | None, typer.Option(help="Before such a time, which is not included.")]
LONGEST = timedelta(days=36_500)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_match_duration = re.compile(r"([0-9]{1,9})([smhdw])").fullmatch


def parse_instant(text: str | None) -> datetime | None:
    """Return the time (UTC where it names no zone), or the one so long before now; None for None.

    Raises BadParameter where the text is neither, or the duration is longer than a century.
    """
    if text is None:
        return None
    try:
        if (duration := _parse_duration(text)) is not None:
            return datetime.now(UTC) - duration
        time = datetime.fromisoformat(text)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise _build_refusal(text) from None


def parse_time_or_interval(text: str | None) -> datetime | str | None:
    """Return the time as it was given, or a duration as PostgreSQL reads it: `1 hours`.

    So the duration counts from the database's clock. Raises BadParameter as parse_instant does.
    """
    if text is None:
        return None
    try:
        if _parse_duration(text) is not None:
            return f"{text[:-1]} {UNITS[text[-1]]}"
        return datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise _build_refusal(text) from None


def _parse_duration(text: str) -> timedelta | None:
    """Return the duration, or None where it is none; OverflowError where it is too long."""
    match = _match_duration(text)
    if match is None:
        return None
    duration = timedelta(**{UNITS[match[2]]: int(match[1])})
    if duration > LONGEST:
        raise OverflowError
    return duration


def _build_refusal(text: str) -> typer.BadParameter:
    return typer.BadParameter(f"{escape(text)}: neither an ISO time nor a duration as 90s or 1h")
