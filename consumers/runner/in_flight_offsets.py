"""InFlightOffsets: the offsets of one partition that were received and are not finished yet."""

from collections import deque


class InFlightOffsets:
    """Offsets come in rising order and are finished in any order.

    It holds some bytes of memory for each offset from the lowest unfinished one on.
    """

    def __init__(self) -> None:
        self._received: deque[int] = deque()
        self._finished: set[int] = set()
        self._next: int | None = None

    def __len__(self) -> int:
        return len(self._received) - len(self._finished)

    def receive(self, offset: int) -> None:
        """Add an offset; ValueError if it is not above all before it: then a record came twice."""
        if self._next is not None and offset < self._next:
            raise ValueError(f"offset {offset} after {self._next - 1}")
        self._received.append(offset)
        self._next = offset + 1

    def finish(self, offset: int) -> None:
        """Mark an offset whose effect is durable, or which is a dead letter in PostgreSQL."""
        self._finished.add(offset)
        while self._received and self._received[0] in self._finished:
            self._finished.remove(self._received.popleft())

    @property
    def lowest(self) -> int | None:
        """The offset that may be committed: every record below it is finished.

        None before the first record.
        """
        return self._received[0] if self._received else self._next
