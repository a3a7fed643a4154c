"""A carried medium: prepared once, known by its marker, and refused when it is another's or not there at all.

Why here: the online and the offline side must judge a medium by the same code, before a key or a sequence is used up.
Must not: trust the marker (anybody can write one: it guards against mistakes, the signatures guard against people),
make a drop that is not there, or format what holds anything else.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from keys.durable import write_all
from keys.errors import RuleError
from keys.public import canonical
from keys.public.roll import Count, Node
from transfer.config import ShopName
from transfer.errors import TransferError
from transfer.sync.drop import entries_of
from transfer.sync.media import (
    CREATE,
    check_room,
    chunks,
    closing,
    fault,
    is_there,
    matches,
    measure,
    medium_errors,
    open_drop,
    open_plain,
    shown,
)
from transfer.sync.strangers import is_systems_own, strangers
from transfer.wire.manifest import Version

MARKER_NAME = "medium.json"
_MARKER_LIMIT = 4096
_PREFIX = {"in": "b", "out": "r"}

Label = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]([ -~]{0,38}[!-~])?\Z")]


class Direction(StrEnum):
    """Where a medium carries to: IN is towards the offline side."""

    IN = "in"
    OUT = "out"


class Marker(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="medium"
):
    """What ``medium.json`` at the top of a drop says, in canonical JSON."""

    format: Version = 1
    label: Label
    shop: ShopName
    node: Node
    direction: Direction
    prepared_at: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """A drop that may be used. ``marker`` is None for a plain directory that was never prepared.

    ``place``: which directory of which file system was admitted; None for a drop that is only looked at.
    """

    drop: Path
    direction: Direction
    marker: Marker | None
    place: tuple[int, int] | None = None

    def takes(self, node: str) -> bool:
        """True when this node's units may lie here."""
        return self.marker is None or self.marker.node == node

    def strangers(self, node: str) -> list[TransferError]:
        """What lies here and does not belong; see ``strangers.strangers``."""
        marked = self.marker is not None
        return strangers(
            self.drop,
            node,
            allowed=(MARKER_NAME,) if marked else None,
            prefix=_PREFIX[self.direction] if marked else "",
        )

    def check(self) -> None:
        """``MEDIUM-CHANGED`` unless the medium that was admitted is still the one in its place."""
        with medium_errors(self.drop), open_drop(self.drop) as top:
            self._check(top)

    def settle(self) -> str:
        """Make all of it durable on the medium; its label when it may now be removed, "" for a plain directory."""
        with medium_errors(self.drop), open_drop(self.drop) as top:
            sync_file_system(top)
            self._check(top)
        return self.marker.label if self.marker else ""

    def _check(self, top: int) -> None:
        # Another stick in the same port may have the same numbers: its marker tells.
        if self.place not in (None, place_of(top)) or read_marker(top, self.drop) != self.marker:
            was = f"medium {self.marker.label!r}" if self.marker else "the drop"
            raise TransferError(
                "MEDIUM-CHANGED",
                f"{was} at {self.drop} was taken away, or another put in its place, before all was done",
                "what was not confirmed may be on neither: put the right one in and repeat the command",
            )


def admit(
    drop: Path, direction: Direction, *, shop: str | None, nodes: Collection[str], home: Path
) -> Medium:
    """The drop, if it is what it has to be. ``home``: our own state directory.

    ``shop``: the drop is a prepared medium of this shop; None: a plain directory, whose marker is still obeyed when
    it has one. Raises ``MEDIUM-NONE``, ``MEDIUM-NOT-MOUNTED``, ``MEDIUM-UNMARKED``, ``MEDIUM-DAMAGED`` (the marker),
    ``MEDIUM-FOREIGN``, ``MEDIUM-DIRECTION`` or ``MEDIUM-UNEXPECTED`` (the marker is no plain file).
    """
    with open_drop(drop) as top, medium_errors(drop):
        marker, place = read_marker(top, drop), place_of(top)
        if shop is not None and place[0] == home.stat().st_dev:
            raise _not_mounted(drop, "it lies on the same file system as our own state")
    if marker is None:
        if shop is None:
            return Medium(drop=drop, direction=direction, marker=None, place=place)
        raise TransferError(
            "MEDIUM-UNMARKED",
            f"{drop} is no prepared medium: it has no {MARKER_NAME}",
            f"is it the right one? A new one is prepared with: spool-sync format-medium {drop}",
        )
    if shop is not None and marker.shop != shop:
        raise _foreign(drop, marker, f"it belongs to shop {marker.shop}, and this is {shop}")
    if marker.node not in nodes:
        raise _foreign(drop, marker, f"it belongs to node {marker.node}")
    if marker.direction is not direction:
        raise TransferError(
            "MEDIUM-DIRECTION",
            f"medium {marker.label!r} at {drop} carries {marker.direction.upper()}, and here one for "
            f"{direction.upper()} is wanted",
            "take the other one; nothing was read from it or written to it",
        )
    return Medium(drop=drop, direction=direction, marker=marker, place=place)


def admit_or_note(
    drop: Path,
    direction: Direction,
    *,
    shop: str | None,
    nodes: Collection[str],
    home: Path,
    into: list[RuleError],
) -> Medium | None:
    """``admit``, for a run that goes on without this drop: what refuses it is noted in ``into``, and None returned."""
    try:
        return admit(drop, direction, shop=shop, nodes=nodes, home=home)
    except TransferError as error:
        into.append(error)
        return None


def inspect(drop: Path, *, shop: str | None, node: str) -> Medium:
    """A drop that is only looked at, of either direction, wherever it lies; ``MEDIUM-FOREIGN`` when it is another's."""
    with open_drop(drop) as top, medium_errors(drop):
        marker = read_marker(top, drop)
    if marker is None:
        return Medium(drop=drop, direction=Direction.IN, marker=None)
    if (shop is not None and marker.shop != shop) or marker.node != node:
        raise _foreign(drop, marker, f"it belongs to shop {marker.shop}, node {marker.node}")
    return Medium(drop=drop, direction=marker.direction, marker=marker)


def format_medium(place: Path, marker: Marker, *, own_disk: Path) -> None:
    """Prepare ``place`` (made when only its last part is missing): a directory and a marker, durable and read back.

    ``own_disk``: any directory of this machine's own disk; a medium lies elsewhere. Repeating it is harmless.
    Raises ``MEDIUM-NOT-MOUNTED``, ``MEDIUM-FOREIGN`` (it is prepared for something else) or ``MEDIUM-UNEXPECTED``
    (it holds files), and what ``write_unit`` raises of the medium.
    """
    existing = place if place.exists() else place.parent
    with open_drop(existing) as top:
        if os.fstat(top).st_dev == own_disk.stat().st_dev:
            raise _not_mounted(place, "it lies on this machine's own disk")
    with medium_errors(place):
        if existing is not place:
            check_room(existing, _MARKER_LIMIT, 1, place)
            place.mkdir(0o755)
        with open_drop(place) as top:
            found = read_marker(top, place)
            if found is not None:
                _same_or_foreign(place, found, marker)
                return
            _refuse_contents(top, place)
            check_room(top, _MARKER_LIMIT, 1, place)
            _write_marker(top, place, canonical.encode(marker))
            sync_file_system(top)


def read_marker(top: int, drop: Path) -> Marker | None:
    """The marker of the drop that is open as ``top``, None when it has none."""
    if not is_there(MARKER_NAME, top):
        return None
    with open_plain(top, MARKER_NAME, _MARKER_LIMIT, drop, "MEDIUM-UNEXPECTED") as descriptor:
        try:
            raw = b"".join(chunks(descriptor, _MARKER_LIMIT + 1))
        except OSError as error:
            raise fault(drop / MARKER_NAME, error) from error
    try:
        return canonical.decode(raw, Marker, limit=_MARKER_LIMIT, what="marker of the medium")
    except RuleError as error:
        raise TransferError(
            "MEDIUM-DAMAGED",
            f"{drop / MARKER_NAME} cannot be read: {error.message}",
            "take another medium, or empty this one and prepare it again: spool-sync format-medium",
        ) from error


def place_of(descriptor: int) -> tuple[int, int]:
    """Which directory of which file system an open descriptor stands for."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def sync_file_system(descriptor: int) -> None:
    """syncfs(2): everything that was written to this file system is on it. ``OSError`` as the system gives it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _write_marker(top: int, place: Path, raw: bytes) -> None:
    with closing(os.open(MARKER_NAME, CREATE, 0o644, dir_fd=top)) as file:
        write_all(file, raw)
        os.fsync(file)
    os.fsync(top)
    if not matches(top, MARKER_NAME, measure([raw])):
        raise TransferError(
            "MEDIUM-DAMAGED",
            f"{place / MARKER_NAME} does not read back as it was written",
            "the medium is failing: take another",
        )


def _same_or_foreign(place: Path, found: Marker, wanted: Marker) -> None:
    if msgspec.structs.replace(found, prepared_at=wanted.prepared_at) != wanted:
        raise _foreign(
            place, found, f"it is prepared for {found.shop}, node {found.node}, {found.direction.upper()}"
        )


def _refuse_contents(top: int, place: Path) -> None:
    names = [entry.name for entry in entries_of(top, place) if not is_systems_own(entry.name)]
    if names:
        raise TransferError(
            "MEDIUM-UNEXPECTED",
            f"{place} is not empty: {shown(names)}",
            "nothing was changed. Empty it, or name a new directory on it, such as " + str(place / "orders"),
        )


def _foreign(drop: Path, marker: Marker, why: str) -> TransferError:
    return TransferError(
        "MEDIUM-FOREIGN",
        f"medium {marker.label!r} at {drop} is not ours: {why}",
        "take the right one; nothing was read from it or written to it",
    )


def _not_mounted(drop: Path, why: str) -> TransferError:
    return TransferError(
        "MEDIUM-NOT-MOUNTED",
        f"no medium is mounted at {drop}: {why}",
        "insert the medium and mount it there, and repeat the command",
    )
