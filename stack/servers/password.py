"""Password: a random one for a server of ours, in a file that only we may read."""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr


def make_password() -> str:
    """Return 24 random bytes as 32 characters that need no quotes anywhere."""
    return secrets.token_urlsafe(24)


def read_or_make_password(file: Path) -> SecretStr:
    """Return the password in the file; if there is no file, make one that only we may read.

    Servers keep a hash of the first password that they are given, so a kept folder needs the file.
    """
    if not file.exists():
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as new:
            new.write(make_password())
    return SecretStr(file.read_text(encoding="ascii"))
