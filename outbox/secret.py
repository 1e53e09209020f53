"""Secret: what this process has told a server to prove who it is, and repeats to nobody.

A server, or a proxy in front of it, may repeat what it was told. Its answer becomes the text of an
error, which comes out in logs, tables and answers. So whoever hands out a secret keeps it here
first, and what servers say passes through `without_secrets`.
"""

SHORTEST_SECRET = 4  # a shorter one is in every other word
_handed_out: set[str] = set()


def keep_secret(secret: str | None) -> None:
    """From now on no error of this process shows it, if it is long enough to be told apart."""
    if secret and len(secret) >= SHORTEST_SECRET:
        _handed_out.add(secret)


def without_secrets(text: str) -> str:
    """The same text, with `***` in the place of every secret that was handed out."""
    for secret in sorted(_handed_out, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
