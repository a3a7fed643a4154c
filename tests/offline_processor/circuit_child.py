"""A network namespace of its own is furnished, and a command runs in it (for test_isolation.py).

Kinds: ``none``; ``route-out``, a default route; ``circuit``, a line to a plain TCP host at 192.0.2.2 and no more;
``circuit-and-another`` interface that is up; ``circuit-and-default``, a default route over the circuit.

Usage: python -m tests.offline_processor.circuit_child KIND UNSHARE ARGUMENT …, run where the namespace is new.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

OURS, HOST, PORT = "192.0.2.1", "192.0.2.2", 5000
PATIENCE, STEP = 20.0, 0.02


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def network_of(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def pair(name: str, address: str, length: int = 30) -> None:
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-far")
    ip("address", "add", f"{address}/{length}", "dev", name)


def host() -> None:
    """The other end: takes connections and hangs up, saying on standard error who came."""
    deadline = time.monotonic() + PATIENCE
    while "acq0-far" not in Path("/proc/self/net/dev").read_text():
        if time.monotonic() > deadline:
            raise TimeoutError("no line came")
        time.sleep(STEP)
    ip("address", "add", f"{HOST}/30", "dev", "acq0-far")
    ip("link", "set", "acq0-far", "up")
    listening = socket.create_server((HOST, PORT))
    print("ready", flush=True)
    while True:
        connected, address = listening.accept()
        print(f"connection from {address[0]}", file=sys.stderr, flush=True)
        connected.close()


def line(unshare: str) -> subprocess.Popen[str]:
    """The circuit, with the host in a namespace of its own at its other end."""
    pair("acq0", OURS)
    far = subprocess.Popen(
        [unshare, "--net", sys.executable, "-m", "tests.offline_processor.circuit_child", "host"],
        stdout=subprocess.PIPE,
        text=True,
    )
    while network_of(far.pid) in ("", network_of(os.getpid())):
        time.sleep(STEP)
    ip("link", "set", "acq0-far", "netns", str(far.pid))
    ip("link", "set", "acq0", "up")
    if far.stdout is None or far.stdout.readline() != "ready\n":
        raise RuntimeError("the host did not start")
    return far


def main() -> None:
    kind, *rest = sys.argv[1:]
    if kind == "host":
        host()
    unshare, *command = rest
    ip("link", "set", "lo", "up")
    far = line(unshare) if kind.startswith("circuit") else None
    try:
        match kind:
            case "route-out":
                pair("out0", "198.51.100.1", 24)
                ip("link", "set", "out0", "up")
                ip("link", "set", "out0-far", "up")
                ip("route", "add", "default", "via", "198.51.100.2", "dev", "out0")
            case "circuit-and-another":
                ip("link", "add", "more0", "type", "veth", "peer", "name", "more0-far")
                ip("link", "set", "more0", "up")
            case "circuit-and-default":
                ip("route", "add", "default", "via", HOST, "dev", "acq0")
        ran = subprocess.run([sys.executable, *command], check=False, cwd=Path(__file__).parents[2])
    finally:
        if far is not None:
            far.kill()
            far.wait()
    sys.exit(ran.returncode)


if __name__ == "__main__":
    main()
