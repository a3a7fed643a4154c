"""`key-ceremony`, whose memory the test that started it may read (run by test_hygiene.py).

It opens its own memory before the command hardens the process, and hands it over; afterwards nobody could.
"""

from __future__ import annotations

import os
import socket
import sys

from keys.cli import main

if __name__ == "__main__":
    descriptor, *arguments = sys.argv[1:]
    memory, maps = (os.open(f"/proc/self/{name}", os.O_RDONLY) for name in ("mem", "smaps"))
    with socket.socket(fileno=int(descriptor)) as door:
        socket.send_fds(door, [b"."], [memory, maps])
    os.close(memory)
    os.close(maps)
    sys.argv = ["key-ceremony", *arguments]
    main()
