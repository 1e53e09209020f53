"""operator: who runs a command, as its operation is recorded."""

import getpass
import os
import socket

from outbox.escape import escape

MAX_CHARACTERS = 255


def name_operator() -> str:
    """`user@host`; `uid-54321@host` where the user has no name, as in `docker run --user 54321`."""
    return escape(f"{_user()}@{socket.gethostname()}")[:MAX_CHARACTERS]


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # by version of Python; no line in the passwd file
        return f"uid-{os.getuid()}"
