"""Addresses: the URLs of the stores, checked before anything connects to them.

What is wrong is named without the address itself, which may hold a password that was put there.
"""

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit


def check_address(url: str, schemes: Collection[str], secret_in: str) -> str:
    """The URL as it is; ValueError with the rule that it breaks.

    `secret_in` names the variables that user and password, or a key, belong into.
    """
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("must have no spaces and no control characters")
    parts = _split(url)
    if parts.scheme not in schemes:
        raise ValueError(f"must begin with {', '.join(f'{each}://' for each in schemes)}")
    if "@" in parts.netloc:
        raise ValueError(f"must hold no user and no password: they belong into {secret_in}")
    if not parts.hostname:
        raise ValueError("must name a host, as in SCHEME://HOST:PORT")
    if parts.query or parts.fragment:
        raise ValueError("must end after host, port and path: no ? and no #")
    _require_port(parts)
    return url


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("must be SCHEME://HOST:PORT, an IPv6 address in brackets") from None


def _require_port(parts: SplitResult) -> None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("must have a port from 1 to 65535, or none")
