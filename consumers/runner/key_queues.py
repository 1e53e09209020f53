"""Lanes: the messages of each key in order, keys side by side, many of them in one batch.

A lane is a key with messages that wait or run. What runs at once is a unit: leading messages of
one lane or of several. No key is in two units, so a message starts when all before it are done.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile

from consumers.runner.work_item import QueueKey, WorkItem
from schemas.envelope import Envelope


@dataclass(eq=False, slots=True)
class KeyQueue:
    """`alone`: its messages are applied one by one, because a batch with them has failed.

    `attempts` counts the surprises of its first message; `waits` gives the next waiting time.
    """

    key: QueueKey
    tasks: deque[WorkItem] = field(default_factory=deque)
    busy: bool = False
    alone: bool = False
    attempts: int = 0
    waits: Iterator[float] | None = None


@dataclass(frozen=True, slots=True)
class WorkBatch:
    """What is applied at once: so many leading messages of each of these lanes."""

    parts: tuple[tuple[KeyQueue, int], ...]

    @property
    def tasks(self) -> list[WorkItem]:
        return [task for queue, count in self.parts for task in islice(queue.tasks, count)]

    @property
    def queues(self) -> list[KeyQueue]:
        return [queue for queue, _ in self.parts]


class KeyQueues:
    """Gives units out. `batch_messages` is the most in one; with 1 each is of one message.

    `apart` says of a message that it must not share a unit: a broken one, or one whose key is
    parked. All is in memory: whoever adds bounds it.
    """

    def __init__(self, batch_messages: int, apart: Callable[[WorkItem], bool]) -> None:
        self._batch = batch_messages
        self._apart = apart
        self._queues: dict[QueueKey, KeyQueue] = {}
        self._ready: OrderedDict[QueueKey, KeyQueue] = OrderedDict()  # neither busy nor delayed

    def __len__(self) -> int:
        """Keys with messages that wait or run."""
        return len(self._queues)

    def add(self, task: WorkItem) -> None:
        """Behind all of its key."""
        queue = self._queues.get(task.queue)
        if queue is None:
            queue = self._queues[task.queue] = KeyQueue(task.queue)
            self._ready[queue.key] = queue
        queue.tasks.append(task)

    def take(self) -> WorkBatch | None:
        """The next unit, of lanes that have waited longest; they are busy until it is settled."""
        if not self._ready:
            return None
        first = next(iter(self._ready.values()))
        parts = ((first, 1),) if self._is_single(first) else tuple(self._batch_of_ready())
        for queue, _ in parts:
            queue.busy = True
            del self._ready[queue.key]
        return WorkBatch(parts)

    def finish(self, unit: WorkBatch) -> None:
        """Its messages are done; their lanes go on, behind those that wait."""
        for queue, count in unit.parts:
            for _ in range(count):
                queue.tasks.popleft()
            queue.alone, queue.attempts, queue.waits = False, 0, None
            self._free(queue)

    def again(self, unit: WorkBatch) -> None:
        """Another message of its key was done; its own come next, behind the lanes that wait."""
        for queue in unit.queues:
            queue.attempts, queue.waits = 0, None
            self._free(queue)

    def split(self, unit: WorkBatch) -> None:
        """Its batch has failed: each of its messages comes again, next and by itself."""
        for queue in reversed(unit.queues):
            queue.alone = True
            self._free(queue)
            self._ready.move_to_end(queue.key, last=False)

    def resume(self, queue: KeyQueue) -> None:
        """Its first message may be tried again. Until then a lane stays as it was taken."""
        self._free(queue)

    def forget_retried(self, unit: WorkBatch) -> list[WorkItem]:
        """Drop what came from dead letters and is behind this unit in its lanes; return it."""
        dropped = []
        for queue, count in unit.parts:
            behind = list(islice(queue.tasks, count, None))
            dropped += [task for task in behind if task.retried]
            kept = [task for task in behind if not task.retried]
            queue.tasks = deque([*islice(queue.tasks, count), *kept])
        return dropped

    def _free(self, queue: KeyQueue) -> None:
        queue.busy = False
        if queue.tasks:
            self._ready[queue.key] = queue
        else:
            self._ready.pop(queue.key, None)
            del self._queues[queue.key]

    def _is_single(self, queue: KeyQueue) -> bool:
        return self._batch == 1 or queue.alone or self._apart(queue.tasks[0])

    def _batch_of_ready(self) -> Iterable[tuple[KeyQueue, int]]:
        room = self._batch
        for queue in self._ready.values():
            if room == 0 or self._is_single(queue):
                return
            count = self._together(queue.tasks, room)
            room -= count
            yield queue, count

    def _together(self, tasks: Iterable[WorkItem], room: int) -> int:
        """How many of the leading ones may be in one batch."""
        return sum(1 for _ in takewhile(lambda task: not self._apart(task), islice(tasks, room)))


def list_envelopes(tasks: Sequence[WorkItem]) -> list[Envelope]:
    """What a reaction is given."""
    return [task.content for task in tasks if isinstance(task.content, Envelope)]
