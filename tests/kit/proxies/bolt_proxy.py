"""BoltProxy: a proxy that knows a Bolt COMMIT, and can lose it or its answer.

Clients must not encrypt, and use `bolt:`: with `neo4j:` they go to where the server says it is.
"""

from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

from tests.kit.proxies.postgres_proxy import Cut, CuttingProxy, CuttingWire
from tests.kit.proxies.proxy import Connection, Wire

# One chunk of two bytes, a structure without fields and its signature, and the end of the message.
COMMIT = b"\x00\x02\xb0\x12\x00\x00"


class BoltProxy(CuttingProxy):
    """A proxy in front of a server that speaks Bolt."""

    def __init__(self, url: str) -> None:
        super().__init__(urlsplit(url).netloc.rpartition("@")[2])

    @property
    def url(self) -> str:
        """The URL of the same server, through the proxy."""
        return f"bolt://{self.address}"

    def wire(self, connection: Connection) -> Wire:
        return BoltWire(self, connection)


class BoltWire(CuttingWire):
    """Looks for COMMIT in what a client sends.

    Weakness: it does not take messages apart, so the same six bytes in a value count as a COMMIT.
    """

    def __init__(self, proxy: BoltProxy, connection: Connection) -> None:
        super().__init__(proxy, connection)
        self._rest = b""
        self._cut: Cut | None = None

    async def up(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        if self._cut is None and self._commits(chunk):
            self._cut = self._take_cut()
        if self._cut is None or self._cut.delivered:
            yield chunk
        else:
            self._end(self._cut)

    async def down(self, chunk: bytes) -> AsyncGenerator[bytes, None]:
        if self._cut is None:
            yield chunk
        else:  # what comes after a COMMIT is its answer: the client waits for it
            self._end(self._cut)

    def _commits(self, chunk: bytes) -> bool:
        """Return whether this chunk completes a COMMIT, wherever the chunks were cut."""
        seen = self._rest + chunk
        found = COMMIT in seen
        self._rest = b"" if found else seen[1 - len(COMMIT) :]
        return found
