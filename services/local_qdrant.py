"""LocalQdrant: Qdrant's local mode, a stand-in for a server, which closes every file that it opens.

The client's own local mode opens a SQLite database only to ask for a compile option, and leaves the
database of a deleted collection open. Since Python 3.13 each of them is a ResourceWarning.
"""

from pathlib import Path
from typing import Any

from qdrant_client import AsyncQdrantClient
from qdrant_client.local.async_qdrant_local import AsyncQdrantLocal


class LocalQdrant(AsyncQdrantClient):
    """Qdrant's local mode in a folder: one process, one client, no index."""

    def __init__(self, folder: str | Path) -> None:
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
