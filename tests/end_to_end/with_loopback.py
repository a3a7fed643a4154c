"""Bring loopback up in a network namespace of one's own, then become the command that follows.

Why here: a new namespace has its loopback down, and a newcomer's machine need not have `ip`.
Must not: touch another interface, or run where the namespace is the machine's own (root only).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from typing import NoReturn

_SET_FLAGS, _UP = 0x8914, 0x1  # SIOCSIFFLAGS and IFF_UP of netdevice(7)


def main() -> NoReturn:
    """``python -m tests.end_to_end.with_loopback COMMAND [ARGUMENT …]``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH22x", b"lo", _UP))
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  what the caller typed


if __name__ == "__main__":
    main()
