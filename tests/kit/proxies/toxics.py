"""Toxics: what may happen to the bytes of one direction of a connection, in Toxiproxy's words.

Each is in force from `Proxy.add` to `Proxy.remove`, also for connections that exist already. A
toxic never invents, drops or reorders bytes; if it ends a connection, the bytes that had not passed
yet are lost with it.
"""

import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

PIECES_A_SECOND = 50


class Flow(Protocol):
    """One direction of one connection, as a toxic sees it."""

    async def hold(self, toxic: "Toxic", seconds: float | None = None) -> None:
        """Wait so many seconds, or for ever; but no longer than the toxic is in force."""

    def later(self, toxic: "Toxic", seconds: float, reset: bool) -> None:
        """End the connection after so many seconds, if the toxic is still in force then."""

    def close(self) -> None:
        """End the connection, after the bytes that have passed already."""


@dataclass(eq=False)
class Toxic:
    """Lets everything through as it is."""

    def begin(self, flow: Flow) -> None:
        """Begin to be in force for this flow."""

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        """Yield the chunk's bytes when they go on, and in the pieces in which they do."""
        del flow
        yield chunk

    async def before_end(self, flow: Flow) -> None:
        """Act when the sender has closed; the receiver learns of that afterwards."""


@dataclass(eq=False)
class Latency(Toxic):
    """Lets bytes arrive `seconds` later, give or take `jitter`; the bytes behind them wait."""

    seconds: float
    jitter: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        varied = self.seconds + self.rng.uniform(-self.jitter, self.jitter)
        await flow.hold(self, max(0.0, varied))
        yield chunk


@dataclass(eq=False)
class Bandwidth(Toxic):
    """Lets no more than so many bytes pass in a second."""

    bytes_a_second: int

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        for piece in _cut(chunk, max(1, self.bytes_a_second // PIECES_A_SECOND)):
            await flow.hold(self, len(piece) / self.bytes_a_second)
            yield piece


@dataclass(eq=False)
class SlowClose(Toxic):
    """Lets the end of the stream arrive `seconds` late."""

    seconds: float

    async def before_end(self, flow: Flow) -> None:
        await flow.hold(self, self.seconds)


@dataclass(eq=False)
class Timeout(Toxic):
    """A black hole: connections are accepted, and nothing goes on.

    With `seconds` connections are closed after that time. What was sent meanwhile arrives when the
    toxic is removed, as it does when a cut cable is repaired.
    """

    seconds: float | None = None

    def begin(self, flow: Flow) -> None:
        if self.seconds is not None:
            flow.later(self, self.seconds, reset=False)

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        await flow.hold(self)
        yield chunk

    async def before_end(self, flow: Flow) -> None:
        await flow.hold(self)


@dataclass(eq=False)
class ResetPeer(Toxic):
    """Resets both ends of a connection, `seconds` after the toxic or the connection began."""

    seconds: float = 0.0

    def begin(self, flow: Flow) -> None:
        flow.later(self, self.seconds, reset=True)


@dataclass(eq=False)
class Slicer(Toxic):
    """Cuts bytes into pieces of so many, each in a packet of its own, with a pause before each."""

    piece_bytes: int
    pause_seconds: float = 0.0

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        for piece in _cut(chunk, self.piece_bytes):
            await flow.hold(self, self.pause_seconds)
            yield piece


@dataclass(eq=False)
class LimitData(Toxic):
    """Closes a connection once so many bytes have passed since the toxic or itself began."""

    limit_bytes: int
    passed: dict[Flow, int] = field(default_factory=dict)

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        before = self.passed.get(flow, 0)
        within = chunk[: self.limit_bytes - before]
        self.passed[flow] = before + len(within)
        yield within
        if self.passed[flow] >= self.limit_bytes:
            flow.close()


def _cut(chunk: bytes, size: int) -> list[bytes]:
    return [chunk[start : start + size] for start in range(0, len(chunk), size)]
