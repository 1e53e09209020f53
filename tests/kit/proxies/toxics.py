"""Toxics: what may happen to the bytes of one direction of a connection, in Toxiproxy's words.

Each is in force from `Proxy.add` to `Proxy.remove`, also for connections that are there already. A
toxic never makes up, drops or reorders bytes; where it ends a connection, the bytes that had not
passed yet are lost with it.
"""

import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

PIECES_A_SECOND = 50


class Flow(Protocol):
    """One direction of one connection, as a toxic sees it."""

    async def hold(self, toxic: "Toxic", seconds: float | None = None) -> None:
        """Wait so long, or, without seconds, for ever; in any case no longer than its force."""

    def later(self, toxic: "Toxic", seconds: float, reset: bool) -> None:
        """End the connection after so long, if the toxic is still in force then."""

    def close(self) -> None:
        """End the connection, after what has passed already."""


@dataclass(eq=False)
class Toxic:
    """Lets everything through as it is."""

    def begin(self, flow: Flow) -> None:
        """It is in force for this flow from now on."""

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        """The chunk's bytes, when and in the pieces in which they go on."""
        del flow
        yield chunk

    async def before_end(self, flow: Flow) -> None:
        """The sender has closed; the receiver learns of it afterwards."""


@dataclass(eq=False)
class Latency(Toxic):
    """Bytes arrive `seconds` later, give or take `jitter`; those behind them wait in line."""

    seconds: float
    jitter: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        varied = self.seconds + self.rng.uniform(-self.jitter, self.jitter)
        await flow.hold(self, max(0.0, varied))
        yield chunk


@dataclass(eq=False)
class Bandwidth(Toxic):
    """No more than so many bytes a second."""

    bytes_a_second: int

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        for piece in _pieces(chunk, max(1, self.bytes_a_second // PIECES_A_SECOND)):
            await flow.hold(self, len(piece) / self.bytes_a_second)
            yield piece


@dataclass(eq=False)
class SlowClose(Toxic):
    """The end of the stream arrives `seconds` late."""

    seconds: float

    async def before_end(self, flow: Flow) -> None:
        await flow.hold(self, self.seconds)


@dataclass(eq=False)
class Timeout(Toxic):
    """A black hole: accepted, and nothing goes on; closed after `seconds` where they are given.

    As on a cut cable, what was sent meanwhile arrives when the toxic is removed.
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
    """Both ends get a TCP reset, `seconds` after the toxic or the connection began."""

    seconds: float = 0.0

    def begin(self, flow: Flow) -> None:
        flow.later(self, self.seconds, reset=True)


@dataclass(eq=False)
class Slicer(Toxic):
    """Pieces of so many bytes, each in a packet of its own, with a pause before each."""

    piece_bytes: int
    pause_seconds: float = 0.0

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        for piece in _pieces(chunk, self.piece_bytes):
            await flow.hold(self, self.pause_seconds)
            yield piece


@dataclass(eq=False)
class LimitData(Toxic):
    """The connection is closed once so many bytes have passed since the toxic or it began."""

    limit_bytes: int
    passed: dict[Flow, int] = field(default_factory=dict)

    async def through(self, chunk: bytes, flow: Flow) -> AsyncGenerator[bytes, None]:
        before = self.passed.get(flow, 0)
        within = chunk[: self.limit_bytes - before]
        self.passed[flow] = before + len(within)
        yield within
        if self.passed[flow] >= self.limit_bytes:
            flow.close()


def _pieces(chunk: bytes, size: int) -> list[bytes]:
    return [chunk[start : start + size] for start in range(0, len(chunk), size)]
