"""The account that a server runs as: ours, or an unprivileged one when we are root."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from stack.errors import FolderUnusable, StackError

UNPRIVILEGED = "nobody"


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int

    def own(self, folder: Path) -> None:
        """Make the folder, owned by this account and closed to all others but root."""
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chown(folder, self.uid, self.gid)

    def require_way_to(self, folder: Path) -> None:
        """Raise FolderUnusable if this account cannot enter every folder above `folder`."""
        for parent in folder.resolve().parents:
            if not others_may(parent, stat.S_IXOTH):
                raise FolderUnusable(
                    f"{folder} cannot be reached by the account {self.name}, because {parent} is "
                    "closed to it; choose a data folder that everybody may enter"
                )

    def may_read(self, tree: Path) -> bool:
        """Whether this account reaches and reads the whole tree, by the bits for everybody.

        Weakness: groups and access lists are not looked at; the answer is then a needless no.
        """
        way = all(others_may(parent, stat.S_IXOTH) for parent in (tree, *tree.resolve().parents))
        return way and all(others_may(path, needed(path)) for path in tree.rglob("*"))


def server_account() -> Account | None:
    """None for an ordinary user (servers run as that user); `nobody` when we are root."""
    if os.geteuid() != 0:
        _require_name(os.geteuid())
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise StackError(
            f"PostgreSQL does not run as root and there is no account {UNPRIVILEGED}"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _require_name(uid: int) -> None:
    """StackError where initdb would end for want of a name, as in `docker run --user 54321`."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise StackError(
            f"PostgreSQL does not start as the user id {uid}, which has no entry in the passwd "
            "file: add one, or set POSTGRES_URL"
        ) from None


def others_may(path: Path, bits: int) -> bool:
    """Whether everybody has these permissions on it; yes for a dangling link."""
    return not path.exists() or path.stat().st_mode & bits == bits


def needed(path: Path) -> int:
    """Read; for folders and programs also enter or run."""
    runnable = path.is_dir() or path.parent.name == "bin"
    return stat.S_IROTH | (stat.S_IXOTH if runnable else 0)
