"""The ring secret in a file: what wraps the key ring, replaced at every destruction.

Why here: destroying a key means that nothing is left that unwraps it; this is the one thing that must go.
Must not: claim more than files can do. The old bytes are overwritten in place and fsynced, yet a flash medium
or an old disk image may still have them: with this backend erasure is not assured by hardware.

Replacement, each step durable before the next (the ring's new file is written before it starts):
``ring.secret.new`` written; ``ring.secret.old`` linked to the live one; ``.new`` renamed over the live one,
which is the moment of destruction; ``.old`` overwritten, then removed. ``settle`` finishes or undoes it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from keys.durable import fsync_directory, write_all, write_new_file
from keys.errors import KeysError
from keys.private import strongbox
from keys.private.locked import LockedBuffer
from keys.private.secretbox import KEY_SIZE, UnwrapError

if TYPE_CHECKING:
    from pathlib import Path

_SIZE_LIMIT: Final = 4096


class _Index(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="ring-secret"
):
    format: int = 1


class FileRingSecret:
    """The secret of the key ring in ``directory``, wrapped under the keystore's ``master`` key."""

    __slots__ = ("_directory", "_live", "_master", "_new", "_old")

    def __init__(self, directory: Path, master: LockedBuffer) -> None:
        self._directory = directory
        self._master = master
        self._live = directory / "ring.secret"
        self._new = directory / "ring.secret.new"
        self._old = directory / "ring.secret.old"

    def create(self, secret: LockedBuffer) -> None:
        """Store the first secret; the caller makes the directory durable."""
        write_new_file(self._live, [self._wrapped(secret)])

    def read(self) -> LockedBuffer:
        """The live secret; ``KEYSTORE-DAMAGED`` when it is missing or does not open."""
        try:
            file = self._live.read_bytes()
            with strongbox.opened(self._master, file[:_SIZE_LIMIT], _Index, "ring secret") as (_, secret):
                return LockedBuffer(KEY_SIZE).copy_from(secret)
        except (OSError, UnwrapError, ValueError) as error:
            remedy = "batch and hold keys are lost with it: restore the keystore, or enrol the nodes again"
            raise KeysError("KEYSTORE-DAMAGED", f"the ring secret {self._live} is damaged", remedy) from error

    def replace(self, secret: LockedBuffer) -> None:
        """Put ``secret`` in place of the live one, and leave nothing of the old one that software can see."""
        write_new_file(self._new, [self._wrapped(secret)])
        # A second name keeps the old file within reach, so that a crash cannot leave it unwiped and nameless.
        os.link(self._live, self._old)
        fsync_directory(self._directory)  # and with these names that of the ring's new file
        os.rename(self._new, self._live)
        fsync_directory(self._directory)
        _erase(self._old)

    def settle(self) -> None:
        """After a crash: drop a secret that never became live, and erase one that is no longer live."""
        changed = False
        if self._old.exists():
            changed = True
            # Before the rename both names are the same file, and overwriting it would kill every key.
            if self._live.exists() and self._old.samefile(self._live):
                self._old.unlink()
            else:
                _erase(self._old)
        if self._new.exists():
            changed = True
            _erase(self._new)
        if changed:
            fsync_directory(self._directory)

    def _wrapped(self, secret: LockedBuffer) -> bytes:
        return strongbox.lay_out(self._master, _Index(), [secret.view])


def _erase(path: Path) -> None:
    """Overwrite a file in place, make that durable, then remove it (the caller fsyncs the directory)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        write_all(descriptor, os.urandom(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()
