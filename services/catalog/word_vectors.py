"""Imports wordllama even for a user without a home folder, as in `docker run --user 54321`.

The package asks for a home folder at import, for a cache that we do not use, and raises an error
where there is none.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def some_home() -> Iterator[None]:
    """Set HOME inside the block if this user has none; nothing is written there."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.sep
        try:
            yield
        finally:
            del os.environ["HOME"]
    else:
        yield


with some_home():
    import wordllama

__all__ = ["wordllama"]
