"""Run by its path, in an interpreter of its own: takes an identity that PostgreSQL accepts and becomes PostgreSQL.

PostgreSQL refuses to run as the superuser, and outlives a parent that is killed. Both must be settled between fork and
exec, where a threaded parent may not run code; so a small single-threaded process does it, which imports nothing of us.

    python -I -S launcher.py PARENT_PID IDENTITY PROGRAM ARGUMENT…

IDENTITY is `same`, `user:UID:GID`, or `mapped`: a user namespace in which the superuser's files belong to an ordinary
user, for where no other account may reach the files. PARENT_PID 0: no tie to the parent's life.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
MAPPED_UID = 1000


def _map_user() -> None:
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "user namespaces are not allowed here")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{MAPPED_UID} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{MAPPED_UID} {gid} 1")


def _take_identity(identity: str) -> None:
    if identity == "mapped":
        _map_user()
    elif identity != "same":
        _, uid, gid = identity.split(":")
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))


def _die_with(parent: int) -> None:
    if not parent or not sys.platform.startswith("linux"):
        return
    # SIGINT is PostgreSQL's fast shutdown. The kernel forgets this at a change of identity, so it comes last.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent:
        sys.exit("the process that starts PostgreSQL is gone")


def main() -> None:
    parent, identity, program, *arguments = sys.argv[1:]
    try:
        _take_identity(identity)
        _die_with(int(parent))
        os.execv(program, [program, *arguments])  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot run {program}: {error.strerror}")


if __name__ == "__main__":
    main()
