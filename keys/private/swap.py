"""Whether this machine may write memory to a disk in clear: its active swap, down to the devices below.

Why here: locked pages stay in memory, but a passphrase on its way and a library's copies may be swapped out.
Must not: guess; what cannot be followed to dm-crypt or to memory counts as not encrypted.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from keys.errors import KeysError

_SIZE_LIMIT: Final = 1024 * 1024
_DEPTH_LIMIT: Final = 16
_COLUMNS: Final = 5
_DELETED: Final = " (deleted)"
_CRYPT: Final = "CRYPT-"
_ROOT: Final = Path("/")


class OnSwap(StrEnum):
    """What to do about swap that is not encrypted."""

    REFUSE = "refuse"
    ACCEPT = "accept"  # the configuration names the risk
    REHEARSAL = "rehearsal"  # throwaway keys: marked, not refused


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapArea:
    """One line of /proc/swaps."""

    path: str
    is_file: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDevice:
    """What /sys says of one block device. ``below`` are the devices that it stands on."""

    name: str
    dm_uuid: str | None = None
    in_memory: bool = False  # zram
    below: tuple[BlockDevice, ...] = ()

    @property
    def protected(self) -> bool:
        """True when nothing that is written to it reaches a disk in clear."""
        if self.dm_uuid is not None and self.dm_uuid.startswith(_CRYPT):
            return True
        if self.in_memory and not self.below:
            return True
        return bool(self.below) and all(device.protected for device in self.below)


def parse_swaps(text: str) -> list[SwapArea]:
    """The areas that /proc/swaps lists; ``ValueError`` when it is not such a list."""
    header, *lines = text.splitlines() or [""]
    if header.split()[:2] != ["Filename", "Type"]:
        raise ValueError("this is not the form of /proc/swaps")
    areas = []
    for line in lines:
        columns = line.split()
        if len(columns) != _COLUMNS or columns[1] not in {"partition", "file"}:
            raise ValueError("this is not the form of /proc/swaps")
        areas.append(SwapArea(path=_unescaped(columns[0]), is_file=columns[1] == "file"))
    return areas


def unencrypted_swaps(root: Path = _ROOT) -> list[str]:
    """The active swap areas that may write memory in clear; ``root`` is where ``proc`` and ``sys`` are."""
    try:
        with (root / "proc/swaps").open("rb") as file:
            text = file.read(_SIZE_LIMIT).decode("utf-8", "surrogateescape")
        areas = parse_swaps(text)
    except FileNotFoundError:
        return []  # a kernel without swap
    except (OSError, ValueError):
        return ["/proc/swaps cannot be read"]
    return [area.path for area in areas if not _is_protected(root, area)]


_accepted = False  # for the whole process, as core dumps are off for the whole process


def accept_unencrypted_swap() -> None:
    """From now on this process goes on where swap is not encrypted: its configuration names the risk."""
    global _accepted  # noqa: PLW0603
    _accepted = True


def check_swap(on_swap: OnSwap = OnSwap.REFUSE, root: Path = _ROOT) -> str | None:
    """Refuse (``SWAP-NOT-ENCRYPTED``), or give the words with which screens must mark the accepted risk."""
    found = unencrypted_swaps(root)
    if not found:
        return None
    names = ", ".join(found)
    if on_swap is OnSwap.REFUSE and not _accepted:
        raise KeysError(
            "SWAP-NOT-ENCRYPTED",
            f"this machine may write its memory to disk in clear: swap {names} is not encrypted",
            "switch it off (`swapoff -a`, and take it out of /etc/fstab) or put it on dm-crypt; to take the risk "
            'all the same, say so in the configuration: accept_risk = ["unencrypted-swap"]',
        )
    return f"SWAP NOT ENCRYPTED: {names}"


def _is_protected(root: Path, area: SwapArea) -> bool:
    device = _device_of_file(root, area.path) if area.is_file else _device_of_node(root, area.path)
    return device is not None and device.protected


def _device_of_node(root: Path, path: str, depth: int = 0) -> BlockDevice | None:
    # /dev/mapper/NAME is a link to the /dev/dm-N that /sys knows.
    node = root / path.lstrip("/")
    try:
        name = node.readlink().name if node.is_symlink() else node.name
    except OSError:
        return None
    return _device(root, name, depth)


def _device_of_file(root: Path, path: str, depth: int = 0) -> BlockDevice | None:
    if path.endswith(_DELETED):
        return None
    try:
        number = (root / path.lstrip("/")).stat().st_dev
        known = (root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve(strict=True)
    except (OSError, RuntimeError):
        return None  # also file systems over several devices (btrfs): not followed, so not trusted
    return _device(root, known.name, depth)


def _device(root: Path, name: str, depth: int) -> BlockDevice | None:
    entry = root / "sys/class/block" / name
    if depth > _DEPTH_LIMIT or not name or not entry.exists():
        return None
    below: list[BlockDevice | None] = []
    if (entry / "partition").exists():
        below.append(_device(root, entry.resolve().parent.name, depth + 1))
    slaves = entry / "slaves"
    if slaves.is_dir():
        below += [_device(root, slave.name, depth + 1) for slave in sorted(slaves.iterdir())]
    if (backing := _text(entry / "loop/backing_file")) is not None:
        below.append(_device_of_file(root, backing, depth + 1))
    in_memory = re.fullmatch(r"zram\d+", name) is not None
    if in_memory and (backing := _text(entry / "backing_dev")) not in {None, "none"}:
        below.append(_device_of_node(root, str(backing), depth + 1))
    if None in below:
        return None
    return BlockDevice(
        name=name,
        dm_uuid=_text(entry / "dm/uuid"),
        in_memory=in_memory,
        below=tuple(device for device in below if device is not None),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "surrogateescape").strip() or None
    except OSError:
        return None


def _unescaped(name: str) -> str:
    # The kernel writes blank, tab, newline and backslash as three octal digits of the byte.
    raw = name.encode("utf-8", "surrogateescape")
    plain = re.sub(rb"\\([0-3][0-7]{2})", lambda found: bytes([int(found[1], 8)]), raw)
    return plain.decode("utf-8", "surrogateescape")
