"""Become another program that dies when our parent dies.

    python -I -S leash.py PARENT_PID SIGNAL UID GID PROGRAM [ARGUMENT ...]

Between fork and exec of the parent no Python may run safely (other threads may hold locks), so
this little program is executed instead: it gives up root (UID and GID, or -1 to stay), asks the
kernel for SIGNAL at the death of its parent, and executes PROGRAM in its place, with the same pid.
The order matters: a change of user id clears the death signal. The request survives an exec.

It stands alone (standard library only, isolated mode) so that it costs some 20 ms.
Weakness: the kernel means the parent *thread*: it must be the parent's main thread.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def become(uid: int, gid: int) -> None:
    """Give up root for good: groups first, while we still may."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with(parent: int, signal_number: int) -> None:
    """Ask for the signal; leave at once if the parent died before we could ask."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(f"leash: the parent {parent} is gone")


def main(arguments: list[str]) -> None:
    parent, signal_number, uid, gid = (int(number) for number in arguments[:4])
    if uid >= 0:
        become(uid, gid)
    die_with(parent, signal_number)
    program = arguments[4:]
    os.execv(program[0], program)  # noqa: S606  # no shell is wanted; our own caller gives the path


if __name__ == "__main__":
    main(sys.argv[1:])
