"""Media made by an enemy: trees of every kind of entry in every place, and what lies outside and must not change."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from tests.transfer.house import NODE
from transfer.wire.manifest import (
    ENVELOPES_NAME,
    KEYROLL_NAME,
    MANIFEST_NAME,
    RECORDS_NAME,
    SIGNATURE_NAME,
)

KINDS = (
    "file",
    "empty",
    "sparse",
    "directory",
    "deep",
    "link to a file",
    "link to a directory",
    "link up",
    "broken link",
    "link to itself",
    "hard link",
    "fifo",
    "socket",
    *(("device",) if os.geteuid() == 0 else ()),  # only root can make one
)
_TERABYTE = 1 << 40
_UNITS = ("b00000001", "b00000002", "r0001-00000001", "r0001-00000002")
_FILES = (ENVELOPES_NAME, MANIFEST_NAME, SIGNATURE_NAME, KEYROLL_NAME, RECORDS_NAME)
_ODD = (
    "medium.json",
    "MEDIUM.JSON",
    NODE.upper(),
    "B00000001",
    "b0000001",
    "..b00000001",
    "b00000001.",
    "b00000001 ",
    "manifest.json\n",
    "\x1b[2J",
    "\u202egpj.b00000001",
    "CON",
    "~",
    "-rf",
    "$(reboot)",
    "a" * 255,
    "\udcff\udcfe",  # bytes that are no UTF-8
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something at a path below the drop. ``content``: of a plain file."""

    path: tuple[str, ...]
    kind: str
    content: bytes = b""


_names = st.sampled_from((NODE, "shop-b", *_UNITS, *_FILES, *_ODD))
_paths = st.one_of(
    st.tuples(_names),
    st.tuples(st.just(NODE), _names),
    st.tuples(st.just(NODE), st.sampled_from(_UNITS), _names),
    st.lists(_names, min_size=1, max_size=5).map(tuple),
)
trees = st.lists(
    st.builds(
        Entry,
        path=_paths,
        kind=st.sampled_from(KINDS),
        content=st.one_of(
            st.binary(max_size=64), st.sampled_from((b"{}", b"\0" * 5000, b"untrusted comment: x\n"))
        ),
    ),
    max_size=14,
)


def plant(drop: Path, tree: Iterable[Entry], outside: Path) -> None:
    """Build the tree; what contradicts an earlier entry is left out."""
    for entry in tree:
        place = drop.joinpath(*entry.path)
        try:
            _parents(drop, entry.path[:-1])
            _make(place, entry, outside)
        except OSError:
            continue  # a file in the way of a directory, a name that this file system does not take


def _parents(drop: Path, names: tuple[str, ...]) -> None:
    place = drop
    for name in names:
        place /= name
        if place.is_symlink():
            raise NotADirectoryError(place)  # the enemy's own links are not followed while the tree is built
        place.mkdir(exist_ok=True)


def _make(place: Path, entry: Entry, outside: Path) -> None:
    if os.path.lexists(place):
        raise FileExistsError(place)
    makers: dict[str, Callable[[], object]] = {
        "file": lambda: place.write_bytes(entry.content),
        "empty": place.touch,
        "sparse": lambda: _sparse(place),
        "directory": place.mkdir,
        "deep": lambda: _deep(place),
        "link to a file": lambda: place.symlink_to(outside / "secret"),
        "link to a directory": lambda: place.symlink_to(outside),
        "link up": lambda: place.symlink_to("../../../.."),
        "broken link": lambda: place.symlink_to(outside / "new"),
        "link to itself": lambda: place.symlink_to(place.name),
        "hard link": lambda: os.link(outside / "secret", place),
        "fifo": lambda: os.mkfifo(place),
        "socket": lambda: os.mknod(place, 0o600 | stat.S_IFSOCK),
        "device": lambda: os.mknod(place, 0o600 | stat.S_IFCHR, os.makedev(1, 5)),  # endless zeros
    }
    makers[entry.kind]()


def _sparse(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(_TERABYTE)


def _deep(place: Path) -> None:
    place.mkdir()
    for _ in range(60):
        place /= "d"
        place.mkdir()


def lay_out(outside: Path) -> None:
    """What the enemy's links lead to."""
    outside.mkdir()
    (outside / "secret").write_bytes(b"must stay as it is")
    (outside / NODE).mkdir()
    (outside / NODE / "b00000001").mkdir()
    (outside / NODE / "b00000001" / MANIFEST_NAME).write_bytes(b"must stay too")


def snapshot(outside: Path) -> dict[str, bytes | None]:
    """Everything below ``outside``: content of files, None for directories."""
    return {
        str(path.relative_to(outside)): path.read_bytes() if path.is_file() else None
        for path in sorted(outside.rglob("*"))
    }
