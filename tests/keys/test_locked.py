"""Locked memory: what the system knows of its pages, wiping, and the refusal when it cannot be had."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from threading import Thread

import pytest

from keys.private.locked import PAGE_SIZE, LockedBuffer, zero_stack

ROOT = Path(__file__).parents[2]


def flags_of(address: int) -> set[str]:
    """The kernel's VmFlags of the mapping that holds ``address``."""
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="ascii").splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= address < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return set(line.split()[1:])
    raise AssertionError("no such mapping")


@pytest.mark.parametrize("size", [1, 32, 64, 500 * 128])
def test_pages_are_locked_not_dumped_and_not_inherited(size: int) -> None:
    with LockedBuffer(size) as buffer:
        for address in (buffer.address, buffer.address + size - 1):
            assert {"lo", "dd", "dc"} <= flags_of(address)


def test_small_secrets_share_a_page_and_overlap_nowhere() -> None:
    buffers = [LockedBuffer(size) for size in (32, 64, 33, 1, 32, 32)]
    spans = sorted((buffer.address, buffer.address + buffer.size) for buffer in buffers)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert len({start // PAGE_SIZE for start, _ in spans}) <= 2
    for number, buffer in enumerate(buffers):
        buffer.view[:] = bytes([number + 1]) * buffer.size
    buffers[2].close()
    for number, buffer in enumerate(buffers):
        if number != 2:
            assert set(buffer.view) == {number + 1}


def test_many_small_secrets_take_more_pages() -> None:
    buffers = [LockedBuffer(32) for _ in range(300)]
    for number, buffer in enumerate(buffers):
        buffer.view[:] = number.to_bytes(32, "big")
    assert [int.from_bytes(buffer.view, "big") for buffer in buffers] == list(range(300))


def test_big_buffer_is_used_as_slots() -> None:
    with LockedBuffer(500 * 128) as cards:
        slots = [cards.view[start : start + 128] for start in range(0, 500 * 128, 128)]
        slots[499][:] = b"\xaa" * 128
        assert cards.view[-128:] == b"\xaa" * 128
        cards.wipe()
        assert not any(slots[499])


def test_closing_wipes_what_is_still_looked_at_and_makes_the_buffer_unusable() -> None:
    buffer = LockedBuffer(32)
    buffer.view[:] = b"\x55" * 32
    kept = buffer.view[:16]
    buffer.close()
    assert not any(kept)
    assert len(buffer.view) == 0
    assert buffer.pointer is None
    buffer.close()


def test_forgotten_buffer_is_wiped() -> None:
    buffer = LockedBuffer(32)
    buffer.view[:] = b"\x55" * 32
    kept = buffer.view
    del buffer
    assert not any(kept)


def test_content_is_in_no_text() -> None:
    with LockedBuffer(3).copy_from(b"abc") as buffer:
        assert repr(buffer) == "<LockedBuffer of 3 bytes>"


def test_child_process_does_not_touch_its_parents_secrets() -> None:
    buffer = LockedBuffer(32)
    child = os.fork()
    if child == 0:
        try:
            buffer.close()
            LockedBuffer(32).copy_from(b"\x11" * 32).close()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    buffer.close()


def test_threads_never_get_the_same_place() -> None:
    taken: list[LockedBuffer] = []

    def take() -> None:
        for _ in range(300):
            taken.append(LockedBuffer(32))
            LockedBuffer(32).close()

    threads = [Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({buffer.address for buffer in taken}) == len(taken) == 1200


def test_stack_is_wiped_without_harm() -> None:
    zero_stack()


LOW_LIMIT = """
import os, resource
from keys.private.locked import LockedBuffer
resource.setrlimit(resource.RLIMIT_MEMLOCK, (8192, 8192))
if os.geteuid() == 0:
    os.setuid(65534)
small = LockedBuffer(32)
try:
    LockedBuffer(64000)
except Exception as error:
    print(error.rule, error.message, error.remedy)
"""


def test_too_low_lock_limit_is_refused_with_the_fix() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOW_LIMIT], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.startswith("MEMORY-LOCK the system refused to lock 64 KiB"), done.stderr
    assert "limit: 8 KiB" in done.stdout
    assert "ulimit -l" in done.stdout


HARDENED = """
import resource
from keys.private.locked import harden_process
harden_process()
print(resource.getrlimit(resource.RLIMIT_CORE), open("/proc/self/stat").close())
import ctypes
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def test_hardened_process_leaves_no_core_and_cannot_be_dumped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HARDENED], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "(0, 0) None\n0\n"
