"""A process that is given an address and then becomes the command; in a network namespace of its own, where it may.

Loopback gets an address of the outside: no cable, no route, and yet a machine that is not isolated.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

SET_ADDRESS, SET_FLAGS, UP = 0x8916, 0x8914, 1


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        address = struct.pack("16sHH4s8x", b"lo", socket.AF_INET, 0, socket.inet_aton("192.0.2.7"))
        fcntl.ioctl(asking, SET_ADDRESS, address)
        fcntl.ioctl(asking, SET_FLAGS, struct.pack("16sh14x", b"lo", UP))
    os.execv(sys.executable, [sys.executable, "-m", "offline_processor", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
