"""Parent death signal: become another program, which dies when our parent dies.

    python -I -S parent_death.py PARENT_PID SIGNAL UID GID PROGRAM [ARGUMENT ...]

Between fork and exec of the parent no Python can run safely, because other threads may hold locks.
So this little program is executed instead. It gives up root (to UID and GID; -1 changes nothing),
asks the kernel for SIGNAL at the death of its parent, and executes PROGRAM in its place, with the
same pid. The order matters: a change of the user id clears the death signal. An exec does not.

It imports the standard library only and runs in isolated mode, so that it costs some 20 ms.
Weakness: for the kernel the parent is a *thread*: it must be the parent's main thread.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def become(uid: int, gid: int) -> None:
    """Give up root for good; the groups come first, while we still may change them."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with(parent: int, signal_number: int) -> None:
    """Ask the kernel for the signal; exit at once if the parent died before we could ask."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(f"the parent {parent} is gone")


def main(arguments: list[str]) -> None:
    """Become the program that the command line names; OSError if it cannot be executed."""
    parent, signal_number, uid, gid = (int(number) for number in arguments[:4])
    if uid >= 0:
        become(uid, gid)
    die_with(parent, signal_number)
    program = arguments[4:]
    os.execv(program[0], program)  # noqa: S606  # no shell is wanted; our own caller gives the path


if __name__ == "__main__":
    main(sys.argv[1:])
