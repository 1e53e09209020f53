"""Seed: what a random test draws from; SEED in the environment replaces the usual one."""

import os


def seed(usual: int) -> int:
    return int(os.environ.get("SEED", usual))
