"""Selection: which tests a run leaves to `make faults`; a plugin of pytest.

A test that is marked `faults_only` takes long, and shows over more cases what its neighbours show
too: `make test` and CI leave it out, and the report counts it as deselected.
"""

import pytest

from tests.kit.load.length import FAULTS, LONG


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what this run is to do."""
    if FAULTS or LONG:
        return
    left_out = [item for item in items if item.get_closest_marker("faults_only")]
    items[:] = [item for item in items if not item.get_closest_marker("faults_only")]
    config.hook.pytest_deselected(items=left_out)
