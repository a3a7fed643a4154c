"""Disk images with an ext4 each, and loop devices to mount them by.

Why here: recording and replaying a power cut stand on the same disks.
Must not: leave a mount or a loop device behind.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.recorder import call

DISKS = ("online", "offline", "medium")
"""What stands on a disk of its own, below the root of a world."""

_SIZE = 8 * 1024 * 1024
_GET_FREE, _SET_FD, _CLEAR = 0x4C82, 0x4C00, 0x4C01
_TRIES = 50
_OPTIONS = ("-b", "1024", "-N", "1024", "-m", "0", "-O", "^resize_inode", "-E")
# ext4 mends a rename before its data by itself; other file systems do not.
_MOUNT_OPTIONS = b"errors=remount-ro,noauto_da_alloc"
_EXTENDED = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"


def make_image(mkfs: Path, image: Path, content: Path) -> None:
    """A new image whose ext4 holds a copy of the directory ``content``."""
    with image.open("wb") as file:
        file.truncate(_SIZE)
    command: list[str | Path] = [mkfs, "-q", "-F", *_OPTIONS, _EXTENDED, "-J", "size=1", "-d", content, image]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def mounted(images: Mapping[str, Path], root: Path) -> Iterator[None]:
    """Mount the image of each disk below ``root``."""
    with ExitStack() as stack:
        for disk, image in images.items():
            (root / disk).mkdir(parents=True, exist_ok=True)
            device = _attach(image)
            stack.callback(_detach, device)
            call("mount", device.encode(), bytes(root / disk), b"ext4", ctypes.c_ulong(0), _MOUNT_OPTIONS)
            stack.callback(call, "umount2", bytes(root / disk), ctypes.c_int(0))
        yield


def _attach(image: Path) -> str:
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            with open("/dev/loop-control", "rb") as control:  # noqa: PTH123  not a file
                name = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _SET_FD, backing)
            except OSError:
                continue  # somebody else was faster
            else:
                return name
            finally:
                os.close(device)
    finally:
        os.close(backing)
    raise RuntimeError("no free loop device")


def _detach(name: str) -> None:
    device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _CLEAR, 0)
    finally:
        os.close(device)
