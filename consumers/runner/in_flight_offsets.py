"""Unfinished: which offsets of one partition were received and are not done yet."""

from collections import deque


class InFlightOffsets:
    """Offsets come in rising order and end in any. Memory: some bytes for each that is here."""

    def __init__(self) -> None:
        self._received: deque[int] = deque()
        self._finished: set[int] = set()
        self._next: int | None = None

    def __len__(self) -> int:
        return len(self._received) - len(self._finished)

    def receive(self, offset: int) -> None:
        """ValueError where it is not above all before it: then a record came twice."""
        if self._next is not None and offset < self._next:
            raise ValueError(f"offset {offset} after {self._next - 1}")
        self._received.append(offset)
        self._next = offset + 1

    def finish(self, offset: int) -> None:
        """Its effect is durable, or it is a dead letter in PostgreSQL."""
        self._finished.add(offset)
        while self._received and self._received[0] in self._finished:
            self._finished.remove(self._received.popleft())

    @property
    def lowest(self) -> int | None:
        """What may be committed: every record below it is finished. None before the first."""
        return self._received[0] if self._received else self._next
