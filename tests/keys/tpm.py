"""A TPM 2.0 for the tests: swtpm, a whole one in software, in a process and a state directory of its own.

Why here: what the ring secret promises of a TPM is shown with the real commands against a real one.
Must not: stand in for any part of ours; a second machine is a second of these.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TRIES = 20


@dataclass(kw_only=True)
class Tpm:
    """A running TPM, reached as ``TPM2TOOLS_TCTI`` says."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def address(self) -> str:
        return f"swtpm:host=127.0.0.1,port={self.port}"

    def fall_silent(self) -> None:
        """Take commands and answer none of them."""
        self.process.send_signal(signal.SIGSTOP)

    def answer_again(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


def start(state: Path, program: Path) -> Tpm:
    """Start a TPM on free loopback ports; a ``state`` that is used again is the same chip after a reset."""
    state.mkdir(exist_ok=True)
    for _ in range(_TRIES):
        port = _free_pair()
        process = subprocess.Popen(
            [
                *(program, "socket", "--tpm2", "--tpmstate", f"dir={state}"),
                *("--server", f"type=tcp,port={port},bindaddr=127.0.0.1"),
                *("--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"),
                *("--flags", "not-need-init,startup-clear", "--seccomp", "action=none"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        tpm = Tpm(process=process, port=port)
        if _answers(tpm):
            return tpm
        tpm.stop()
    raise AssertionError("swtpm did not start")


def _answers(tpm: Tpm) -> bool:
    environment = os.environ | {"TPM2TOOLS_TCTI": tpm.address, "TSS2_LOG": "all+NONE"}
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and tpm.process.poll() is None:
        asked = subprocess.run(
            ["tpm2_getcap", "handles-nv-index"], env=environment, capture_output=True, check=False
        )
        if asked.returncode == 0:
            return True
        time.sleep(0.05)
    return False


def _free_pair() -> int:
    """A port that is free now, as is the next one."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                other.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
