"""Our programs as an operator starts them, a process each, and what some of their tests plant."""

import subprocess
import sys

from consumers.settings import Settings
from tests.kit.load.role import environment

NOWHERE = "postgresql://postgres@127.0.0.1:1/aftercommit"  # nothing listens there
PARK = """
    INSERT INTO outbox.parked (aggregatetype, aggregateid, topic, position, reason)
    VALUES ('a.b', 'k', 'a.b.events', 1000, 'too-large');
    INSERT INTO outbox.parked_messages (aggregatetype, aggregateid, position)
    VALUES ('a.b', 'k', 1000), ('a.b', 'k', 2000)
"""


def run(settings: Settings, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m …` with these settings to its end; it fails after 60 seconds."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=environment(settings) | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
