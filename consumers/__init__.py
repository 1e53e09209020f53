"""The reactions: what follows a committed message. Each is idempotent and can be replayed."""
