"""Account: the user that a server runs as, which is ours, or an unprivileged one if we are root."""

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
        """Make the folder; this account owns it, and it is closed to all others but root."""
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chown(folder, self.uid, self.gid)

    def require_way_to(self, folder: Path) -> None:
        """Raise FolderUnusable unless this account can enter every folder above `folder`."""
        for parent in folder.resolve().parents:
            if not others_may(parent, stat.S_IXOTH):
                raise FolderUnusable(
                    f"{folder} cannot be reached by the account {self.name}, because {parent} is "
                    "closed to it; choose a data folder that everybody may enter"
                )

    def may_read(self, tree: Path) -> bool:
        """Return whether this account reaches and reads the whole tree, by the bits for everybody.

        Weakness: groups and access lists are not looked at, so the answer may be a needless no.
        """
        way = all(others_may(parent, stat.S_IXOTH) for parent in (tree, *tree.resolve().parents))
        return way and all(others_may(path, bits_to_use(path)) for path in tree.rglob("*"))


def server_account() -> Account | None:
    """Return `nobody` if we are root; otherwise None: servers then run as our own user.

    StackError is raised if there is no account `nobody`, or if our own user id has no name.
    """
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
    """Raise StackError where initdb would fail for want of a name: `docker run --user 54321`."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise StackError(
            f"PostgreSQL does not start as the user id {uid}, which has no entry in the passwd "
            "file: add one, or set POSTGRES_URL"
        ) from None


def others_may(path: Path, bits: int) -> bool:
    """Return whether everybody has these permissions on it; True for a dangling link."""
    return not path.exists() or path.stat().st_mode & bits == bits


def bits_to_use(path: Path) -> int:
    """Return the bits that allow everybody to read it, and to enter or run folders and programs."""
    runnable = path.is_dir() or path.parent.name == "bin"
    return stat.S_IROTH | (stat.S_IXOTH if runnable else 0)
