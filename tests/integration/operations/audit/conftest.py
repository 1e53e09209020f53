"""What the tests of audits share: a history that is right, so that they can plant what is not."""

import psycopg
import pytest

from consumers.settings import Settings
from tests.kit.operations.auditing import leave_right_history
from tests.kit.operations.planted_rows import Message


@pytest.fixture
async def history(settings: Settings, postgres: psycopg.AsyncConnection) -> list[Message]:
    """What a real relay has published, a few messages a page; the audit finds nothing in it."""
    return await leave_right_history(settings, postgres)
