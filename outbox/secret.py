"""Secret: the passwords and keys that this process sends to servers, and must not show.

A server, or a proxy in front of it, may repeat a secret in its answer. The answer becomes the text
of an error, which comes out in logs, tables and HTTP answers. So code that sends a secret registers
it here first, and texts of servers pass through `without_secrets`.
"""

SHORTEST_SECRET = 4  # characters; a shorter one would occur in ordinary words
_registered: set[str] = set()


def keep_secret(secret: str | None) -> None:
    """Register a secret, so that `without_secrets` masks it; one that is too short is ignored."""
    if secret and len(secret) >= SHORTEST_SECRET:
        _registered.add(secret)


def without_secrets(text: str) -> str:
    """Return the text with `***` in the place of every registered secret."""
    for secret in sorted(_registered, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
