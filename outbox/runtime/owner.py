"""Owner: how a process is named where it holds a lease."""

import os
import socket
from secrets import token_hex


def build_owner_id() -> str:
    """Return an id for one owner in this process: host, process id and random digits.

    Each call returns another id, also on a host that gives the same process id twice.
    """
    return f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"
