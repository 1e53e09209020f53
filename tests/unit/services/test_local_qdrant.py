"""FD5: local mode leaves no database open, whatever becomes of a collection."""

import sqlite3
from pathlib import Path
from typing import Any

import portalocker
import pytest
from portalocker import LockFlags
from qdrant_client.local.persistence import CollectionPersistence
from qdrant_client.models import Distance, VectorParams

from outbox.errors import DependencyDown
from services.qdrant import connect

pytestmark = pytest.mark.anyio
VECTORS = VectorParams(size=2, distance=Distance.COSINE)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Every database that the client opens."""
    found: list[sqlite3.Connection] = []
    original = sqlite3.connect

    def noted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        found.append(original(*arguments, **options))
        return found[-1]

    monkeypatch.setattr("qdrant_client.local.persistence.sqlite3.connect", noted)
    monkeypatch.setattr(CollectionPersistence, "CHECK_SAME_THREAD", None)
    return found


def is_open(connection: sqlite3.Connection) -> bool:
    try:
        connection.total_changes  # noqa: B018 - it raises where the database is closed
    except sqlite3.ProgrammingError:
        return False
    return True


async def test_a_local_store_leaves_no_database_open(
    opened: list[sqlite3.Connection], tmp_path: Path
) -> None:
    """That includes a deleted collection's, and one that was opened only to ask something."""
    client = connect(f"file:{tmp_path / 'store'}", None, 5)
    for name in ("kept", "deleted"):
        await client.create_collection(name, vectors_config=VECTORS)
    await client.delete_collection("deleted")
    await client.delete_collection("never there")
    assert len([each for each in opened if is_open(each)]) == 1
    await client.close()
    assert len(opened) >= 2
    assert not any(map(is_open, opened))


async def test_a_folder_of_another_process_is_refused_before_a_database_is_opened(
    opened: list[sqlite3.Connection], tmp_path: Path
) -> None:
    """What the client has opened by then it would never close."""
    client = connect(f"file:{tmp_path}", None, 5)
    await client.create_collection("kept", vectors_config=VECTORS)
    await client.close()
    opened.clear()
    with (tmp_path / ".lock").open("r+") as file:
        portalocker.lock(file, LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING)
        with pytest.raises(DependencyDown, match="belongs to another process"):
            connect(f"file:{tmp_path}", None, 5)
    assert not opened
