"""The reactions: whatever follows a committed message. Each one is idempotent and can be replayed."""
