"""Plant: a bug is put into the place of one attribute, and taken out again."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def plant(owner: object, name: str, bug: object) -> Iterator[None]:
    """Let this attribute of a class or module be the bug for the length of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, bug)
        yield
