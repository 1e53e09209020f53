"""Qdrant: makes a client of the search store, be it a server or local mode."""

import sqlite3

from qdrant_client import AsyncQdrantClient

from outbox.errors import DependencyDown
from outbox.secret import keep_secret
from services.local_qdrant import LocalQdrant


def connect(url: str, api_key: str | None, timeout_seconds: int) -> AsyncQdrantClient:
    """A client of the server at `url`, or of local mode at `file:FOLDER` or `:memory:`.

    Local mode is a stand-in for a server: one process, one client, no index. Raises DependencyDown
    where the folder belongs to another process or cannot be opened.
    """
    if url == ":memory:":
        return AsyncQdrantClient(location=url)
    if url.startswith("file:"):
        return _open_local(url.removeprefix("file:"))
    keep_secret(api_key)
    # The client's own check of the server's version is off: it asks from a thread and only warns.
    return AsyncQdrantClient(
        url=url, api_key=api_key, timeout=timeout_seconds, check_compatibility=False
    )


def _open_local(folder: str) -> AsyncQdrantClient:
    try:
        return LocalQdrant(folder)
    except RuntimeError as error:
        why = f"its folder {folder} belongs to another process, which must end first"
        raise DependencyDown("qdrant", why) from error
    except (OSError, ValueError, sqlite3.Error) as error:
        why = f"its folder {folder} cannot be opened: {type(error).__name__}: {error}"
        raise DependencyDown("qdrant", why) from error
