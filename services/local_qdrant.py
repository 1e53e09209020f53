"""LocalQdrant: Qdrant's local mode, a stand-in for a server, which closes every file that it opens.

The client's own local mode opens a SQLite database only to ask for a compile option, and leaves
open the database of a deleted collection, and all of a folder that turns out to belong to another
process. Since Python 3.13 each of them is a ResourceWarning.
"""

from pathlib import Path
from typing import Any

import portalocker
from portalocker import LockFlags
from qdrant_client import AsyncQdrantClient
from qdrant_client.local.async_qdrant_local import AsyncQdrantLocal


class LocalQdrant(AsyncQdrantClient):
    """Qdrant's local mode in a folder: one process, one client, no index.

    RuntimeError where the folder belongs to another process.
    """

    def __init__(self, folder: str | Path) -> None:
        _require_free(Path(folder))
        # With this option it does not ask how SQLite was compiled. One event loop uses it.
        super().__init__(path=str(folder), force_disable_check_same_thread=True)

    async def delete_collection(self, collection_name: str, *options: Any, **named: Any) -> bool:
        """Delete the collection, and then close its files, which the client would leave open."""
        local = self._client
        assert isinstance(local, AsyncQdrantLocal)  # noqa: S101 - it was given a folder
        collection = local.collections.get(collection_name)
        deleted = await super().delete_collection(collection_name, *options, **named)
        if collection is not None:
            collection.close()
        return deleted


def _require_free(folder: Path) -> None:
    """Raise RuntimeError where another process holds the lock of local mode on this folder.

    The client itself asks too, but only after it has opened every collection; whoever comes between
    the two questions still meets that one.
    """
    lock = folder / ".lock"
    if not lock.exists():
        return
    with lock.open("r+") as file:
        try:
            portalocker.lock(file, LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING)
        except portalocker.exceptions.LockException as error:
            raise RuntimeError(f"{folder} belongs to another process") from error
        portalocker.unlock(file)
