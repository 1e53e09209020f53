"""Mute: a pipe for a role's log that is full before the role has said a word."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

PIPE_BYTES = 4096


class MutePipe:
    """A pipe whose writer waits until its bytes are read; a writer writes to `into`."""

    def __init__(self) -> None:
        self._out, self.into = os.pipe()
        self._filled = fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.write(self.into, bytes(self._filled))

    def rest(self) -> str:
        """Return all that was written into it; it waits until every writer has ended."""
        os.close(self.into)
        self.into = -1
        pieces = iter(lambda: os.read(self._out, PIPE_BYTES), b"")
        return b"".join(pieces)[self._filled :].decode()

    def close(self) -> None:
        for descriptor in (self._out, self.into):
            if descriptor >= 0:
                os.close(descriptor)


@contextmanager
def mute_pipe() -> Iterator[MutePipe]:
    pipe = MutePipe()
    try:
        yield pipe
    finally:
        pipe.close()
