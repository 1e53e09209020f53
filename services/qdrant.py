"""Qdrant: a client of the search store at an address, whichever form the address has."""

import sqlite3

from qdrant_client import AsyncQdrantClient

from outbox.errors import DependencyDown
from outbox.secret import keep_secret
from services.local_qdrant import LocalQdrant


def connect(url: str, api_key: str | None, timeout_seconds: int) -> AsyncQdrantClient:
    """A client of the server at `url`, or of local mode at `file:FOLDER` or `:memory:`.

    Local mode is a stand-in: one process, one client, no index. DependencyDown where another
    process has its folder, or it is none.
    """
    if url == ":memory:":
        return AsyncQdrantClient(location=url)
    if url.startswith("file:"):
        return _local(url.removeprefix("file:"))
    keep_secret(api_key)
    # The client's own check of the server's version asks from a thread and only warns.
    return AsyncQdrantClient(
        url=url, api_key=api_key, timeout=timeout_seconds, check_compatibility=False
    )


def _local(folder: str) -> AsyncQdrantClient:
    try:
        return LocalQdrant(folder)
    except RuntimeError as error:
        why = f"its folder {folder} belongs to another process, which must end first"
        raise DependencyDown("qdrant", why) from error
    except (OSError, ValueError, sqlite3.Error) as error:
        why = f"its folder {folder} cannot be opened: {type(error).__name__}: {error}"
        raise DependencyDown("qdrant", why) from error
