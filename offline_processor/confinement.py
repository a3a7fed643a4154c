"""What a run gives up before it opens a key: new privileges, and the network where its acquirer needs none.

Why here: a fault in a process that reads hostile orders cannot use what the process no longer has.
Must not: be switched off, go back on anything, or run beside another thread, which would keep what this one gives up.

Of Landlock and seccomp nothing is used: no library for Python that is kept well enough offers them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_TASKS: Final = Path("/proc/self/task")
_SELF: Final = Path("/proc/self")


def confine(*, needs_network: bool) -> list[str]:
    """Give up what can be given up, for the rest of the process; what could not be, in words.

    Call it before ``harden_process``: the kernel lets a process that forbids dumps map no users. From then on neither
    it nor a program that it starts gains privileges. Unless ``needs_network`` it is in a network namespace of its own,
    with nothing in it: not even loopback is up. Sockets that are files go on: a print server's, a TPM's.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    kept = [] if needs_network else _leave_network(libc)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot give up new privileges")
    return kept


def _leave_network(libc: ctypes.CDLL) -> list[str]:
    if len(list(_TASKS.iterdir())) != 1:
        raise AssertionError("another thread would keep the network")
    if libc.unshare(_CLONE_NEWNET) == 0:
        return []
    if not _works_in_a_child(libc):
        return ["the run kept its network: this system lets it make no network namespace"]
    _leave_as_user(libc)
    return []


def _works_in_a_child(libc: ctypes.CDLL) -> bool:
    """Some systems let a process make a namespace and forbid the next step, from which there is no way back."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(OSError):
            _leave_as_user(libc)
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _leave_as_user(libc: ctypes.CDLL) -> None:
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no namespaces")
    # The same user under the same number: files stay whose they are.
    (_SELF / "setgroups").write_text("deny", encoding="ascii")
    (_SELF / "uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    (_SELF / "gid_map").write_text(f"{group} {group} 1", encoding="ascii")
