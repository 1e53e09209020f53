"""A server of ours: one child process behind one part."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from stack.process.process import Process


class Server(ABC):
    """Start, stop, kill, start again. As an `async with` it runs for the length of the block."""

    _process: Process | None = None

    @abstractmethod
    async def start(self) -> None:
        """Return when the server answers. Started again, it keeps its data folder and port."""

    @property
    def pid(self) -> int | None:
        """The process, None while it is not running."""
        return self._process.pid if self._process and self._process.running else None

    async def stop(self) -> None:
        """Stop in good order; nothing happens if it is not running."""
        if self._process is not None:
            await self._process.stop()

    async def kill(self) -> None:
        """kill -9 of the server and all its processes, as a power cut would."""
        if self._process is not None:
            await self._process.kill()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
