"""Become the command that follows, with two given descriptors as its 3 and 4 and a home of its own.

Why here: Chromium takes orders over a pipe only at those two numbers, and writes into its user's home.
Must not: pass on any other descriptor.
"""

from __future__ import annotations

import fcntl
import os
import sys
from typing import NoReturn

_READ, _WRITE = 3, 4
_ABOVE = 10


def main() -> NoReturn:
    """``python -m tests.end_to_end.with_pipes READ WRITE HOME COMMAND [ARGUMENT …]``."""
    # Out of the way first: one of the two may have the other's number.
    given = [fcntl.fcntl(int(text), fcntl.F_DUPFD_CLOEXEC, _ABOVE) for text in sys.argv[1:3]]
    for descriptor, wanted in zip(given, (_READ, _WRITE), strict=True):
        os.dup2(descriptor, wanted)
    os.closerange(_WRITE + 1, os.sysconf("SC_OPEN_MAX"))
    os.environ |= {"HOME": sys.argv[3], "XDG_CONFIG_HOME": sys.argv[3], "XDG_CACHE_HOME": sys.argv[3]}
    os.execvp(sys.argv[4], sys.argv[4:])  # noqa: S606  what the caller typed


if __name__ == "__main__":
    main()
