"""The files of an open keystore: built whole or not at all, opened, replaced under the lock.

Why here: when a change is durable is one question, what the keys are used for (keys/keystore.py) another.
Must not: sign, issue or choose anything, or be left open by a failure.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Self

from keys import keystore_file, master_key, rotation
from keys.durable import fsync_directory, make_directory
from keys.errors import KeysError
from keys.keystore_place import abandon, empty, refuse_existing, take_lock
from keys.private.locked import zero_stack
from keys.private.secretbox import generate_key
from keys.ring import KeyRing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from keys.keystore_file import LongLivedKeys
    from keys.private.locked import LockedBuffer
    from keys.ring_index import RingIndex


class KeystoreFiles:
    """What is in memory of a keystore, the same as on disk, with the lock that keeps it so."""

    __slots__ = ("_broken", "_lock", "kept", "master", "path", "ring")

    def __init__(
        self, *, path: Path, kept: LongLivedKeys, ring: KeyRing, master: LockedBuffer, lock: int
    ) -> None:
        self.path = path
        self.kept = kept
        self.ring = ring
        self.master = master
        self._lock = lock
        self._broken = False

    @classmethod
    def open(cls, path: Path, passphrases: Sequence[LockedBuffer]) -> Self:
        """Load all keys, and settle what a crash left of a change. Raises as ``Keystore.open`` does."""
        if not (path / master_key.FIRST_NAME).exists():
            remedy = "make it with `key-ceremony`, or correct [keystore] path"
            raise KeysError("KEYSTORE-MISSING", f"there is no keystore at {path}", remedy)
        with contextlib.ExitStack() as undo:
            lock = take_lock(path)
            undo.callback(os.close, lock)
            master_key.settle(path)
            stated, master = master_key.read(path, passphrases)
            undo.callback(master.close)
            files = cls._load(path, stated, master, lock)
            undo.pop_all()
        return files

    @classmethod
    def build(
        cls, path: Path, passphrases: Sequence[LockedBuffer], kept: LongLivedKeys, ring: RingIndex
    ) -> Self:
        """A new keystore with these keys, durably or not at all; ``kept`` is wiped. Raises as ``Keystore.create``."""
        building = path.with_name(f".{path.name}.creating")
        with contextlib.ExitStack() as undo:
            undo.callback(kept.close)
            make_directory(building)
            lock = take_lock(building)
            undo.callback(os.close, lock)
            refuse_existing(path)
            empty(building)
            undo.callback(abandon, building)
            master = undo.enter_context(generate_key())
            keystore_file.write_first(building, master, kept)
            backend = kept.index.ring_backend
            KeyRing.create(building, master, epoch=ring.epoch, backend=backend, index=ring).close()
            # Last, and with an fsync of the directory: with the master key the keystore is complete.
            stated = master_key.create(
                building,
                master,
                passphrases,
                identity=kept.identity.public_key,
                rehearsal=kept.index.rehearsal,
            )
            os.rename(building, path)
            fsync_directory(path.parent)
            files = cls._load(path, stated, master, lock)
            undo.pop_all()
        kept.close()
        return files

    @classmethod
    def _load(cls, path: Path, stated: master_key.Stated, master: LockedBuffer, lock: int) -> Self:
        kept = keystore_file.load(path, master)
        ring = KeyRing.open(path, master, backend=kept.index.ring_backend)
        # The passphrase authenticates what master.key says, the master key what `keys` and `ring` say.
        index = kept.index
        if (stated.rehearsal, stated.identity, ring.epoch) != (index.rehearsal, index.made_with, index.epoch):
            raise keystore_file.damaged(path)
        return cls(path=path, kept=kept, ring=ring, master=master, lock=lock)

    def adopt(self, changed: LongLivedKeys) -> None:
        """Make ``changed`` durable, then wipe what is no longer in it."""
        if changed is self.kept:
            return
        if self._broken:
            raise KeysError(
                "KEYSTORE-STATE",
                "an earlier change of the keystore failed half-way",
                "start the command again: opening the keystore repairs it",
            )
        self._broken = True  # until the end: what is on disk may differ from what is in memory
        keystore_file.rewrite(self.path, self.master, changed)
        rotation.close_dropped(self.kept, changed)
        self.kept = changed
        self._broken = False

    def close(self) -> None:
        """Wipe every key from memory and let go of the lock; a second time does nothing."""
        if self.master.pointer is None:
            return
        self.ring.close()
        self.kept.close()
        self.master.close()
        zero_stack()
        os.close(self._lock)
