"""The language: every message that crosses a process, and how it looks on the wire.

Nothing here does I/O or knows a database. Services, the relay and the consumers all import it.
"""
