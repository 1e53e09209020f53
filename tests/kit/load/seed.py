"""The seed of random tests, which SEED in the environment replaces."""

import os


def seed(usual: int) -> int:
    """Return SEED, or the usual seed of this test."""
    return int(os.environ.get("SEED", usual))
