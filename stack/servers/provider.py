"""Provider: which of several servers stands behind a part, and its start.

A part has three providers: its own image in a container, its own jars, and a stand-in. The stand-in
is chosen only where neither of the others can run; it never replaces one that fails.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from stack.part import Part
from stack.servers.container import engine_answers
from stack.settings import StackSettings

AnyPart = TypeVar("AnyPart", bound=Part)
PartOf = TypeVar("PartOf", bound=Part, covariant=True)


class ServesPart(Protocol[PartOf]):
    """A server that stands behind a part."""

    @property
    def part(self) -> PartOf:
        """The part as it is now."""


Start = Callable[[Path, StackSettings], AbstractAsyncContextManager[ServesPart[AnyPart]]]


@dataclass(frozen=True, kw_only=True)
class Providers(Generic[AnyPart]):
    """The providers of one part, and how each is started.

    `has_means` says whether this machine can run the jars; `stand_in` is the stand-in's name.
    """

    in_container: Callable[[StackSettings], AbstractAsyncContextManager[AnyPart]]
    has_means: Callable[[StackSettings], Awaitable[bool]]
    from_jars: Start[AnyPart]
    stand_in: str
    as_stand_in: Start[AnyPart]

    async def choose(self, wanted: str, settings: StackSettings) -> str:
        """Return `docker`, `maven` or the stand-in's name: what is wanted.

        If that is `best`: a container where a Docker engine answers, else the jars where Java and
        Maven are, else the stand-in. A provider that is there and then fails is not replaced by
        another one.
        """
        if wanted != "best":
            return wanted
        if await engine_answers():
            return "docker"
        return "maven" if await self.has_means(settings) else self.stand_in

    @asynccontextmanager
    async def start(
        self, provider: str, folder: Path, settings: StackSettings
    ) -> AsyncIterator[AnyPart]:
        """Start a server of this provider, and stop it at the end of the block."""
        if provider == "docker":
            async with self.in_container(settings) as part:
                yield part
            return
        start = self.from_jars if provider == "maven" else self.as_stand_in
        async with start(folder, settings) as server:
            yield server.part
