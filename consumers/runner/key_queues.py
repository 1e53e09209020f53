"""KeyQueues: keeps the messages of each key in order and gives them out in batches.

A key queue holds the messages of one key that wait or run. A batch is what is applied at once: the
first messages of one queue or of several. No key is in two batches at a time, so a message starts
only when all earlier ones of its key are done, while different keys run side by side.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile

from consumers.runner.work_item import QueueKey, WorkItem
from schemas.envelope import Envelope


@dataclass(eq=False, slots=True)
class KeyQueue:
    """The messages of one key, in order.

    `busy` means that its first messages are in a batch. `alone` means that its next message is
    applied by itself, because a batch with it has failed. `attempts` counts the unexpected errors
    of the first message, and `waits` gives its next waiting times in seconds.
    """

    key: QueueKey
    items: deque[WorkItem] = field(default_factory=deque)
    busy: bool = False
    alone: bool = False
    attempts: int = 0
    waits: Iterator[float] | None = None


@dataclass(frozen=True, slots=True)
class WorkBatch:
    """What is applied at once: of each of these queues, so many of its first messages."""

    parts: tuple[tuple[KeyQueue, int], ...]

    @property
    def items(self) -> list[WorkItem]:
        return [item for queue, count in self.parts for item in islice(queue.items, count)]

    @property
    def queues(self) -> list[KeyQueue]:
        return [queue for queue, _ in self.parts]


class KeyQueues:
    """Gives out batches of at most `batch_messages`; with 1, each batch is one message.

    `must_run_alone` says of a message that it may not share a batch: it is broken, or its key is
    parked. Everything is in memory; whoever adds messages must bound how many.
    """

    def __init__(self, batch_messages: int, must_run_alone: Callable[[WorkItem], bool]) -> None:
        self._batch_messages = batch_messages
        self._must_run_alone = must_run_alone
        self._queues: dict[QueueKey, KeyQueue] = {}
        self._ready: OrderedDict[QueueKey, KeyQueue] = OrderedDict()  # neither busy nor delayed

    def __len__(self) -> int:
        """The number of keys with messages that wait or run."""
        return len(self._queues)

    def add(self, item: WorkItem) -> None:
        """Add a message behind all others of its key."""
        queue = self._queues.get(item.queue)
        if queue is None:
            queue = self._queues[item.queue] = KeyQueue(item.queue)
            self._ready[queue.key] = queue
        queue.items.append(item)

    def take(self) -> WorkBatch | None:
        """Return the next batch, of the queues that have waited longest; None if none is ready.

        Its queues are busy until the batch is settled.
        """
        if not self._ready:
            return None
        first = next(iter(self._ready.values()))
        parts = ((first, 1),) if self._is_single(first) else tuple(self._fill_batch())
        for queue, _ in parts:
            queue.busy = True
            del self._ready[queue.key]
        return WorkBatch(parts)

    def finish(self, batch: WorkBatch) -> None:
        """Remove its messages, which are done; their queues go on behind those that wait."""
        for queue, count in batch.parts:
            for _ in range(count):
                queue.items.popleft()
            queue.alone, queue.attempts, queue.waits = False, 0, None
            self._free(queue)

    def requeue(self, batch: WorkBatch) -> None:
        """Keep its messages, because another message of the key was done in their place.

        They come next in their queue, and the queue goes on behind those that wait.
        """
        for queue in batch.queues:
            queue.attempts, queue.waits = 0, None
            self._free(queue)

    def split(self, batch: WorkBatch) -> None:
        """Give out each of its messages again, first and by itself, because the batch failed."""
        for queue in reversed(batch.queues):
            queue.alone = True
            self._free(queue)
            self._ready.move_to_end(queue.key, last=False)

    def resume(self, queue: KeyQueue) -> None:
        """Allow its first message to be tried again; until this call the queue stays busy."""
        self._free(queue)

    def drop_retried(self, batch: WorkBatch) -> list[WorkItem]:
        """Remove and return what came from dead letters and is behind this batch in its queues."""
        dropped = []
        for queue, count in batch.parts:
            behind = list(islice(queue.items, count, None))
            dropped += [item for item in behind if item.retried]
            kept = [item for item in behind if not item.retried]
            queue.items = deque([*islice(queue.items, count), *kept])
        return dropped

    def _free(self, queue: KeyQueue) -> None:
        queue.busy = False
        if queue.items:
            self._ready[queue.key] = queue
        else:
            self._ready.pop(queue.key, None)
            del self._queues[queue.key]

    def _is_single(self, queue: KeyQueue) -> bool:
        return self._batch_messages == 1 or queue.alone or self._must_run_alone(queue.items[0])

    def _fill_batch(self) -> Iterable[tuple[KeyQueue, int]]:
        room = self._batch_messages
        for queue in self._ready.values():
            if room == 0 or self._is_single(queue):
                return
            count = self._count_leading(queue.items, room)
            room -= count
            yield queue, count

    def _count_leading(self, items: Iterable[WorkItem], room: int) -> int:
        """How many of the first messages may be in one batch."""
        may_share = takewhile(lambda item: not self._must_run_alone(item), islice(items, room))
        return sum(1 for _ in may_share)


def list_envelopes(items: Sequence[WorkItem]) -> list[Envelope]:
    """The envelopes that a reaction is given; broken records have none and are left out."""
    return [item.content for item in items if isinstance(item.content, Envelope)]
