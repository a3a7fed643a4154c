"""A simulated acquirer and one command beside it, in the network namespace that they find themselves in.

Why here: in a namespace of its own the command reaches no acquirer outside of it.
Must not: give the namespace an address or a route of the outside.

Usage: python -m tests.offline_processor.with_line BOOKS COMMAND …
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

from tests.offline_processor.line import simulator

_SET_FLAGS, _UP = 0x8914, 1


def main() -> None:
    books, *command = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))
    with simulator(Path(books)) as line:
        ran = subprocess.run(command, env=os.environ | {"ACQUIRER_ADDRESS": line.address}, check=False)
    sys.exit(ran.returncode)


if __name__ == "__main__":
    main()
