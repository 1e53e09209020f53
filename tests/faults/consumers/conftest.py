"""What the fault tests of the consumers share."""

from pathlib import Path

import pytest

from consumers.settings import Settings
from tests.kit.consumers.ledger import Ledger


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings of a consumer that looks for retried letters ten times a second."""
    update = {
        "retry_poll_seconds": 0.1,
        "backoff_first_seconds": 0.01,
        "backoff_longest_seconds": 0.2,
        "unexpected_error_attempts": 2,
    }
    return settings.model_copy(update=update)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)
