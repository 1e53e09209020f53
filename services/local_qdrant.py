"""LocalQdrant: Qdrant's local mode, a stand-in, which closes every file that it opens.

Its client opens a database to ask for a compile option, and leaves the database of a deleted
collection open: since Python 3.13 each is a ResourceWarning.
"""

from pathlib import Path
from typing import Any

from qdrant_client import AsyncQdrantClient
from qdrant_client.local.async_qdrant_local import AsyncQdrantLocal


class LocalQdrant(AsyncQdrantClient):
    """Local mode in a folder; one process, one client, no index."""

    def __init__(self, folder: str | Path) -> None:
        # Forced, it does not ask how SQLite was compiled; one event loop is all that uses it.
        super().__init__(path=str(folder), force_disable_check_same_thread=True)

    async def delete_collection(self, collection_name: str, *options: Any, **named: Any) -> bool:
        """As the client does, and then close the files."""
        local = self._client
        assert isinstance(local, AsyncQdrantLocal)  # noqa: S101 - it was given a folder
        collection = local.collections.get(collection_name)
        deleted = await super().delete_collection(collection_name, *options, **named)
        if collection is not None:
            collection.close()
        return deleted
