"""The directory of a keystore: one command at a time, never over another, nothing left of a failed creation.

Why here: what may stand at a path is one question; what is in it (keys/keystore.py) another.
Must not: remove a keystore that was ever complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import TYPE_CHECKING, Final

from keys.errors import KeysError
from keys.private.ring_secret_tpm import discard

if TYPE_CHECKING:
    from pathlib import Path

LOCK_NAME: Final = "lock"


def empty(building: Path) -> None:
    """Remove what an unfinished creation left: nothing of it was ever shown to anyone."""
    discard(building)
    for leftover in building.iterdir():
        if leftover.name != LOCK_NAME:
            leftover.unlink()


def abandon(building: Path) -> None:
    """Leave nothing of a creation that failed; what a TPM that cannot be asked still has, the next one removes."""
    with contextlib.suppress(KeysError):
        discard(building)
        shutil.rmtree(building, ignore_errors=True)


def take_lock(directory: Path) -> int:
    """The descriptor that holds the keystore for this command; ``KEYSTORE-BUSY``."""
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        remedy = "wait until the other command has ended"
        raise KeysError("KEYSTORE-BUSY", f"another command has {directory} open", remedy) from None
    return descriptor


def refuse_existing(path: Path) -> None:
    """``KEYSTORE-EXISTS``: keys are never overwritten."""
    if os.path.lexists(path):
        remedy = "keys are never overwritten: choose another [keystore] path, or move the old one away"
        raise KeysError("KEYSTORE-EXISTS", f"{path} exists already", remedy)
