"""Drift: where a store differs from PostgreSQL's stream heads, and how that is repaired.

Start with `check.py`: it finds every key that is missing, stale, orphaned or different, also while
writers go on. `recheck.py` looks again at what may only be under way, `sorted_spool.py` holds any
number of keys in bounded memory, `repair.py` brings the latest messages to the keys that differ,
`watch.py` repeats checks, and `replay_preview.py` says what a replay would change. A check only
reads, and a check that fails raises: it never reports a store as in step. It compares stored
digests, so it does not see contents that were changed beside their digest.
"""
