"""Operator: the name of whoever runs a command, under which an operation is recorded."""

import getpass
import os
import socket

from outbox.escape import escape

MAX_CHARACTERS = 255


def name_operator() -> str:
    """Return `user@host`, escaped, at most MAX_CHARACTERS long.

    It is `uid-54321@host` where the user has no name, for example in `docker run --user 54321`.
    """
    return escape(f"{_read_user()}@{socket.gethostname()}")[:MAX_CHARACTERS]


def _read_user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # no line in the passwd file; by Python version
        return f"uid-{os.getuid()}"
