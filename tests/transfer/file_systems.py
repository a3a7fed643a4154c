"""Other file systems for tests of media: one that is there anyway, and real ones that root can mount."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tools.known import find


def elsewhere(home: Path) -> Path | None:
    """A new directory on another file system than ``home``'s, None where this machine has no other to write to."""
    for place in ("/dev/shm", tempfile.gettempdir(), "/var/tmp", "/run/user/0", str(Path.cwd())):
        path = Path(place)
        if path.is_dir() and path.stat().st_dev != home.stat().st_dev:
            try:
                return Path(tempfile.mkdtemp(prefix="medium-", dir=path))
            except OSError:
                continue
    return None


@contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[Path]:
    """``mount ARGUMENTS place``, until the end. ``place`` is made."""
    place.mkdir(exist_ok=True)
    run("mount", *arguments, str(place))
    try:
        yield place
    finally:
        unmount(place)


def remount(place: Path, option: str) -> None:
    run("mount", "-o", f"remount,{option}", str(place))


def unmount(place: Path) -> None:
    if place.is_mount():
        run("umount", "--lazy", str(place))


@contextmanager
def exfat(root: Path, *, megabytes: int = 64) -> Iterator[Path]:
    """A real exFAT file system, mounted through FUSE from a loop device."""
    image, place = root / "exfat.img", root / "stick"
    with image.open("wb") as file:
        file.truncate(megabytes * 1024 * 1024)
    place.mkdir()
    device = run("losetup", "--find", "--show", str(image)).strip()
    try:
        run("mkfs.exfat", device)
        run("mount.exfat-fuse", device, str(place))
        try:
            yield place
        finally:
            run("umount", str(place))
    finally:
        run("losetup", "--detach", device)


@contextmanager
def small_ext4(root: Path, *, megabytes: int = 8) -> Iterator[Path]:
    """A small ext4 on a loop device."""
    image, place = root / "ext4.img", root / "disk"
    with image.open("wb") as file:
        file.truncate(megabytes * 1024 * 1024)
    run("mkfs.ext4", "-q", "-m", "0", str(image))
    with mounted(place, "-o", "loop", str(image)):
        yield place


def run(program: str, *arguments: str) -> str:
    found = find(program) if program in {"mkfs.exfat", "mkfs.ext4", "mount.exfat-fuse", "mount"} else None
    path = str(found) if found else shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin") or program
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout
