"""Sample event: the event that the write side is measured with."""

from typing import ClassVar

from schemas.envelope import Event


class SampleEvent(Event):
    """A small event about one row."""

    type: ClassVar[str] = "bench.happened.v1"
    topic: ClassVar[str] = "bench.sample.events"
    aggregate: ClassVar[str] = "bench.sample"

    sample: str
    text: str = "x" * 100

    def key(self) -> str:
        return self.sample
