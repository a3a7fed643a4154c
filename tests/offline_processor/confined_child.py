"""A process that gives up what it does not need, and says what it has left (for test_isolation.py).

``give-up`` and ``keep`` call ``confine``; ``command`` is the real command, followed by one line on standard error.
``without-privileges``: it may not make namespaces as root does, only as any user may.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import re
import socket
import sys
from pathlib import Path

from offline_processor import cli
from offline_processor.confinement import confine
from offline_processor.isolation import ways_out

PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21


def network() -> str:
    return str(Path("/proc/self/ns/net").readlink())


def no_new_privileges() -> str:
    found = re.search(r"^NoNewPrivs:\s+(\d)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return found[1] if found else ""


def loopback_answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def main() -> None:
    mode, who, *_ = sys.argv[1:]
    if mode == "command":
        before = network()
        atexit.register(
            lambda: print(
                json.dumps({"network_left": network() != before, "no_new_privileges": no_new_privileges()}),
                file=sys.stderr,
            )
        )
        sys.argv = ["offline-processor", *sys.argv[2:]]
        cli.main()
    if who == "without-privileges":
        if os.geteuid() == 0 and ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) != 0:
            raise OSError("cannot drop the privilege")
        again = [sys.executable, "-m", "tests.offline_processor.confined_child", mode, "now"]
        os.execv(sys.executable, again)  # noqa: S606
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, before, owner = listening.getsockname()[1], network(), Path(__file__).stat().st_uid
        if not loopback_answers(port):
            raise AssertionError("a socket on loopback answers before anything is given up")
        kept = confine(needs_network=mode == "keep")
        print(
            json.dumps(
                {
                    "kept": kept,
                    "before": before,
                    "after": network(),
                    "ways_out": ways_out(resolv_conf=Path("/nowhere")),
                    "loopback_answers": loopback_answers(port),
                    "no_new_privileges": no_new_privileges(),
                    "owner_kept": Path(__file__).stat().st_uid == owner,
                }
            )
        )


if __name__ == "__main__":
    main()
