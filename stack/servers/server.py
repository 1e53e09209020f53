"""Server: one child process of ours that stands behind one part."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from stack.process.process import Process


class Server(ABC):
    """A server that can be started, stopped, killed and started again.

    In an `async with` it runs for the length of the block.
    """

    _process: Process | None = None

    @abstractmethod
    async def start(self) -> None:
        """Return when the server answers. A second start keeps its data folder and its port.

        StackError is raised if it cannot be started; nothing of it is left running then.
        """

    @property
    def pid(self) -> int | None:
        """The server's process id; None while it is not running."""
        return self._process.pid if self._process and self._process.running else None

    async def stop(self) -> None:
        """Stop the server in good order; nothing happens if it is not running."""
        if self._process is not None:
            await self._process.stop()

    async def kill(self) -> None:
        """Kill the server and all its processes by SIGKILL; nothing is written or released."""
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
