"""The folder of a run is removed or kept, as asked, and never shared."""

import errno
import shutil
from pathlib import Path

import pytest

from stack.errors import FolderUnusable
from stack.process.folder import PREFIX, run_folder


def test_a_temporary_folder_is_removed_also_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), run_folder(None, keep=False) as run:
        assert run.name.startswith(PREFIX)
        raise ZeroDivisionError
    assert not run.exists()


def test_a_folder_into_which_a_dying_process_still_writes_is_removed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    removals: list[Path] = []
    rmtree = shutil.rmtree

    def write_meanwhile(folder: Path) -> None:
        removals.append(folder)
        if len(removals) < 3:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        rmtree(folder)

    monkeypatch.setattr(shutil, "rmtree", write_meanwhile)
    with run_folder(None, keep=False) as run:
        pass
    assert not run.exists()
    assert len(removals) == 3


def test_a_temporary_folder_is_kept_on_request(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with run_folder(None, keep=True) as run:
        pass
    assert run.exists()
    assert run.parent == folder


def test_a_chosen_folder_is_made_kept_and_never_shared(folder: Path) -> None:
    chosen = folder / "a" / "b"
    with (
        run_folder(chosen, keep=False) as run,
        pytest.raises(FolderUnusable, match="another run"),
        run_folder(chosen, keep=False),
    ):
        pass
    assert run == chosen
    assert run.exists()
