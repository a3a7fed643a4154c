"""The fault shim from Python's side: built with the machine's C compiler, armed in a forked child.

Why here: worker and tests must agree on its modes.
Must not: arm anything in a process that is not about to suffer.
"""

from __future__ import annotations

import ctypes
import errno
import subprocess
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")


class Mode(IntEnum):
    """What happens at the chosen call (the numbers of shim.c)."""

    COUNT = 0
    BEFORE = 1
    AFTER = 2
    TORN = 3
    FAIL_ONCE = 4
    FAIL_ON = 5


KILLS = (Mode.BEFORE, Mode.AFTER, Mode.TORN)
WRITES = ("write", "pwrite")
"""Calls of which half can be done."""

CAN_FAIL = {
    errno.ENOSPC: (*WRITES, "create", "mkdir", "link", "rename", "ftruncate"),
    errno.EIO: (*WRITES, "fsync", "fdatasync", "syncfs"),
    errno.EROFS: (*WRITES, "create", "mkdir", "unlink", "rmdir", "link", "rename", "ftruncate"),
}
"""Calls that can meet an error, as in shim.c."""


def build(compiler: Path, folder: Path) -> Path:
    """Compile the shim into ``folder``."""
    library = folder / "shim.so"
    options = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "-o", library, SOURCE, "-ldl"], check=True, capture_output=True)
    return library


def arm(root: Path, at: int, mode: Mode, *, error: int = 0, trace: int = -1) -> None:
    """Break the call numbered ``at`` (from 0) below ``root``; each counted call is written to ``trace``."""
    # Of this process: the shim was there before the program.
    ctypes.CDLL(None).shim_arm(str(root).encode(), ctypes.c_long(at), int(mode), error, trace)


def is_loaded() -> bool:
    """True when this process runs on top of the shim."""
    return hasattr(ctypes.CDLL(None), "shim_arm")
