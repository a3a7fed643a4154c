"""Opening a file that holds a secret of the line: ours, nobody else's to read, and of a sensible size.

Why here: the key of the MAC and that of our certificate are kept by one rule.
Must not: read any of it; what is read into Python is never wiped.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def open_private(path: Path, limit: int) -> int:
    """A descriptor of the file, which the caller closes; ``OSError`` or ``ValueError`` says why there is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check(os.fstat(descriptor), limit)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(status: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a plain file")
    if status.st_uid != os.geteuid():
        raise ValueError("it is not owned by who runs this")
    if status.st_mode & 0o077:
        raise ValueError(f"others can read or change it (mode {stat.S_IMODE(status.st_mode):04o})")
    if status.st_size > limit:
        raise ValueError("it is too large")
