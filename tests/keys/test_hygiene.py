"""Processes that see secrets: locked memory only for passphrases, no core, not readable, a clear word when refused."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.keys.ceremony_play import PASSPHRASES, Players, write_plan
from tests.keys.terminal import Terminal
from tests.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 20


def ranges(smaps: int) -> Iterator[tuple[int, int, bool]]:
    """Start, end and whether it is locked, of every readable mapping."""
    os.lseek(smaps, 0, os.SEEK_SET)
    text = b""
    while got := os.read(smaps, CHUNK):
        text += got
    for entry in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text.decode("utf-8", "replace"), flags=re.MULTILINE):
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", entry)
        if found and "[vvar" not in entry and "[vsyscall]" not in entry:
            flags = re.search(r"^VmFlags: (.*)$", entry, re.MULTILINE)
            assert flags is not None
            yield int(found[1], 16), int(found[2], 16), "lo" in flags[1].split()


def places_of(secret: bytes, memory: int, smaps: int) -> list[bool]:
    """For every place where ``secret`` is in memory, whether that memory is locked."""
    found = []
    for start, end, is_locked in list(ranges(smaps)):
        try:
            content = os.pread(memory, end - start, start)
        except OSError:
            continue
        found += [is_locked] * content.count(secret)
    return found


def test_passphrases_are_in_locked_memory_only_while_a_ceremony_goes_on(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    plan = write_plan(tmp_path)
    with Terminal(theirs.fileno(), "run", plan, module="tests.keys.ceremony_child") as terminal:
        theirs.close()
        _, (memory, smaps), _, _ = socket.recv_fds(ours, 1, 2)
        players = Players(terminal)
        players.check_machine()
        players.choose_passphrases()
        terminal.expect("When you are alone")  # both passphrases were used, and are kept to the end
        for secret in PASSPHRASES.values():
            found = places_of(secret.encode(), memory, smaps)
            assert found, "the search finds what is there"
            assert all(found), f"{found.count(False)} copies are in memory that is not locked"
        # The same search does see ordinary memory: the words of a share are strings in a library.
        assert False in places_of(b"back office", memory, smaps)
        for name in ("status", "limits"):
            text = Path(f"/proc/{terminal.child}/{name}").read_text("ascii")
            assert not re.search(r"^Max core file size\s+[1-9u]", text, re.MULTILINE)
        locked = re.search(
            r"^VmLck:\s+(\d+) kB", Path(f"/proc/{terminal.child}/status").read_text("ascii"), re.MULTILINE
        )
        assert locked is not None
        assert int(locked[1]) > 0
        # Not dumpable: its memory belongs to root, whoever runs it.
        assert Path(f"/proc/{terminal.child}/mem").stat().st_uid == 0
        arguments = Path(f"/proc/{terminal.child}/cmdline").read_bytes()
        assert not any(secret.encode() in arguments for secret in PASSPHRASES.values())
    for descriptor in (memory, smaps):
        os.close(descriptor)
    ours.close()


PLAIN_USER = """
import os, resource, sys
from keys.cli import main  # a plain user may not be able to read our root's interpreter
resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
sys.argv[0] = "key-ceremony"
main()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of a plain user, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_plain_user_with_a_low_lock_limit_is_told_the_fix(home: Path) -> None:
    (home / "offline.toml").write_text('[keystore]\npath = "keystore"\n', encoding="ascii")
    reading, writing = os.pipe()
    os.write(writing, b"a passphrase that is long\n")
    os.close(writing)
    arguments = [
        "init",
        "--config",
        str(home / "offline.toml"),
        "--rehearsal",
        "--passphrase-fd",
        str(reading),
    ]
    command = [sys.executable, "-c", PLAIN_USER, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, pass_fds=(reading,))
    os.close(reading)
    assert done.returncode == 2, done.stderr
    assert "MEMORY-LOCK: the system refused to lock" in done.stderr
    assert "ulimit -l 8192" in done.stderr
    assert not (home / "keystore").exists()


@pytest.mark.parametrize("module", ["keys", "offline_processor", "transfer"])
def test_every_command_that_sees_secrets_hardens_its_process(module: str) -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / module).glob("*.py")))
    assert "harden_process()" in sources
