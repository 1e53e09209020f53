"""A password of a server of ours: random, and in a file that only we may read."""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr


def new_password() -> str:
    """Random: 24 bytes in 32 letters that need no quotes anywhere."""
    return secrets.token_urlsafe(24)


def kept_password(file: Path) -> SecretStr:
    """The password in the file; a new one, for our eyes only, if there is no file.

    Servers keep a hash of the first password that they are given: a kept folder needs the file.
    """
    if not file.exists():
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as new:
            new.write(new_password())
    return SecretStr(file.read_text(encoding="ascii"))
