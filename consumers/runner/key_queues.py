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
        return [task for lane, count in self.parts for task in islice(lane.tasks, count)]

    @property
    def lanes(self) -> list[KeyQueue]:
        return [lane for lane, _ in self.parts]


class KeyQueues:
    """Gives units out. `batch_messages` is the most in one; with 1 each is of one message.

    `apart` says of a message that it must not share a unit: a broken one, or one whose key is
    parked. All is in memory: whoever adds bounds it.
    """

    def __init__(self, batch_messages: int, apart: Callable[[WorkItem], bool]) -> None:
        self._batch = batch_messages
        self._apart = apart
        self._lanes: dict[QueueKey, KeyQueue] = {}
        self._ready: OrderedDict[QueueKey, KeyQueue] = OrderedDict()  # neither busy nor delayed

    def __len__(self) -> int:
        """Keys with messages that wait or run."""
        return len(self._lanes)

    def add(self, task: WorkItem) -> None:
        """Behind all of its key."""
        lane = self._lanes.get(task.lane)
        if lane is None:
            lane = self._lanes[task.lane] = KeyQueue(task.lane)
            self._ready[lane.key] = lane
        lane.tasks.append(task)

    def take(self) -> WorkBatch | None:
        """The next unit, of lanes that have waited longest; they are busy until it is settled."""
        if not self._ready:
            return None
        first = next(iter(self._ready.values()))
        parts = ((first, 1),) if self._is_single(first) else tuple(self._batch_of_ready())
        for lane, _ in parts:
            lane.busy = True
            del self._ready[lane.key]
        return WorkBatch(parts)

    def finish(self, unit: WorkBatch) -> None:
        """Its messages are done; their lanes go on, behind those that wait."""
        for lane, count in unit.parts:
            for _ in range(count):
                lane.tasks.popleft()
            lane.alone, lane.attempts, lane.waits = False, 0, None
            self._free(lane)

    def again(self, unit: WorkBatch) -> None:
        """Another message of its key was done; its own come next, behind the lanes that wait."""
        for lane in unit.lanes:
            lane.attempts, lane.waits = 0, None
            self._free(lane)

    def split(self, unit: WorkBatch) -> None:
        """Its batch has failed: each of its messages comes again, next and by itself."""
        for lane in reversed(unit.lanes):
            lane.alone = True
            self._free(lane)
            self._ready.move_to_end(lane.key, last=False)

    def resume(self, lane: KeyQueue) -> None:
        """Its first message may be tried again. Until then a lane stays as it was taken."""
        self._free(lane)

    def forget_retried(self, unit: WorkBatch) -> list[WorkItem]:
        """Drop what came from dead letters and is behind this unit in its lanes; return it."""
        dropped = []
        for lane, count in unit.parts:
            behind = list(islice(lane.tasks, count, None))
            dropped += [task for task in behind if task.retried]
            kept = [task for task in behind if not task.retried]
            lane.tasks = deque([*islice(lane.tasks, count), *kept])
        return dropped

    def _free(self, lane: KeyQueue) -> None:
        lane.busy = False
        if lane.tasks:
            self._ready[lane.key] = lane
        else:
            self._ready.pop(lane.key, None)
            del self._lanes[lane.key]

    def _is_single(self, lane: KeyQueue) -> bool:
        return self._batch == 1 or lane.alone or self._apart(lane.tasks[0])

    def _batch_of_ready(self) -> Iterable[tuple[KeyQueue, int]]:
        room = self._batch
        for lane in self._ready.values():
            if room == 0 or self._is_single(lane):
                return
            count = self._together(lane.tasks, room)
            room -= count
            yield lane, count

    def _together(self, tasks: Iterable[WorkItem], room: int) -> int:
        """How many of the leading ones may be in one batch."""
        return sum(1 for _ in takewhile(lambda task: not self._apart(task), islice(tasks, room)))


def list_envelopes(tasks: Sequence[WorkItem]) -> list[Envelope]:
    """What a reaction is given."""
    return [task.content for task in tasks if isinstance(task.content, Envelope)]
