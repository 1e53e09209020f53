"""What the tests of the consumers share."""

from collections.abc import AsyncIterator

import pytest

from consumers.dead_letters.store import DeadLetters
from consumers.settings import Settings


@pytest.fixture
async def letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    """The dead letters of consumer `one`."""
    async with DeadLetters(settings, "one") as letters:
        yield letters
