"""Servers that a test starts for itself to kill, fill or stop, and what tests look up about them.

Servers that all tests share are started in tests/conftest.py; these are a test's own, and end with
it. A test whose program or jar is not on this machine is skipped, or fails where it was meant to be
there (see `jars`).
"""
