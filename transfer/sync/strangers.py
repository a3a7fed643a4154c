"""What lies on a drop and does not belong there: named, never touched, never followed.

Why here: both sides say it of every medium, and it must cost no more than a bounded look.
Must not: open what it names, or stop what is good on the same medium from being used.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path

from transfer.errors import TransferError
from transfer.sync.drop import entries_of, is_unit_name, node_folder
from transfer.sync.media import medium_errors, open_drop, shown
from transfer.wire.ids import check_node_id

_NAMES_KEPT = 1_000  # what a message counts
_SYSTEMS = frozenset(
    (
        "lost+found",
        "System Volume Information",
        "$RECYCLE.BIN",
        "FOUND.000",
        ".fseventsd",
        ".Spotlight-V100",
        ".DS_Store",
    )
)


def strangers(
    drop: Path, node: str, *, allowed: Collection[str] | None, prefix: str = ""
) -> list[TransferError]:
    """What does not belong on the drop, at most one ``MEDIUM-UNEXPECTED`` a directory.

    ``allowed``: the names beside the node's that may lie at the top of a prepared medium; None for a directory that
    others may share. ``prefix``: the only kind of unit that belongs there; empty for both.
    """
    check_node_id(node)
    found = []
    with medium_errors(drop), open_drop(drop) as top:
        if allowed is not None:
            found += _strange(
                top,
                drop,
                lambda entry: entry.name == node or entry.name in allowed or is_systems_own(entry.name),
            )
        with contextlib.suppress(TransferError), node_folder(top, drop, node) as folder:
            if folder is not None:
                found += _strange(
                    folder,
                    drop / node,
                    lambda entry: is_unit_name(entry.name, prefix) and entry.is_dir(follow_symlinks=False),
                )
    return found


def is_systems_own(name: str) -> bool:
    """True for what operating systems leave on every medium that they see."""
    return name in _SYSTEMS or name.startswith((".Trash", "._"))


def _strange(folder: int, where: Path, belongs: Callable[[os.DirEntry[str]], bool]) -> list[TransferError]:
    names: list[str] = []
    try:
        for entry in entries_of(folder, where):
            if len(names) < _NAMES_KEPT and not belongs(entry):
                names.append(entry.name)
    except TransferError as error:
        return [error]
    if not names:
        return []
    return [
        TransferError(
            "MEDIUM-UNEXPECTED",
            f"{where} holds what does not belong there: {shown(names)}",
            "it was not touched; find out who put it there, and remove it",
        )
    ]
