"""Captures what a module logs; the tests' own configuration would drop warnings."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture


@contextmanager
def captured(module: ModuleType) -> Iterator[list[MutableMapping[str, Any]]]:
    """Yield a list that gets the entries of `module.log` for the length of the block."""
    capture = LogCapture()
    with pytest.MonkeyPatch.context() as patch:
        everything = structlog.make_filtering_bound_logger(0)
        log = structlog.wrap_logger(None, [capture], everything)
        patch.setattr(module, "log", log)
        yield capture.entries
