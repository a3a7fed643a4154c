"""The key ring on disk: saved whole, and saved under a new secret when keys are destroyed.

Why here: which file holds what after a crash at any step is one question, answered in one place.
Must not: know what the keys are for.

``ring`` is a strongbox under the ring secret. A plain save writes ``ring.new`` and renames it. A destruction
makes ``ring.new`` durable under the new secret, replaces the secret, then renames. So after a crash the live
secret opens either ``ring`` (what did not finish is dropped) or ``ring.new`` (what is destroyed stays so).
Where the secret is kept, a file or a TPM, is keys/private/ring_secret.py's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from keys.durable import fsync_directory, write_new_file
from keys.errors import KeysError
from keys.private import strongbox
from keys.private.locked import LockedBuffer
from keys.private.ring_secret import ring_secret, wrapping_key
from keys.private.secretbox import UnwrapError, generate_key
from keys.private.unseal import PRIVATE_KEY_SIZE, SealingKey, sealing_key
from keys.public.seal import KEY_ID_SIZE
from keys.ring_index import RingBackend, RingIndex

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RECORD_SIZE: Final = KEY_ID_SIZE + PRIVATE_KEY_SIZE

Keys = dict[bytes, SealingKey]


class RingFile:
    """The ring's files in the keystore's directory, and what wraps them in locked memory."""

    __slots__ = ("_broken", "_directory", "_live", "_master", "_new", "_place", "_wrapping", "backend")

    def __init__(
        self, directory: Path, master: LockedBuffer, backend: RingBackend = RingBackend.FILE
    ) -> None:
        self._directory = directory
        self._live = directory / "ring"
        self._new = directory / "ring.new"
        self._master = master
        self._place = ring_secret(directory, master, backend)
        self._wrapping: LockedBuffer | None = None
        self._broken = False
        self.backend = backend

    def create(self, index: RingIndex) -> None:
        """Write the first, empty ring; the caller makes the directory durable."""
        with generate_key() as secret:
            self._wrapping = wrapping_key(self._master, secret)
            write_new_file(self._live, [strongbox.lay_out(self._wrapping, index, [])])
            # Last: it may make something outside this directory, which then never belongs to half a ring.
            self._place.create(secret)

    def open(self) -> tuple[RingIndex, Keys]:
        """Load the ring, after settling what a crash left.

        Raises ``KEYSTORE-DAMAGED`` when it is not whole, and with a TPM what stands in the way of its secret.
        """
        self._place.settle()
        with self._place.read() as secret:
            wrapping = self._wrapping = wrapping_key(self._master, secret)
        try:
            loaded = _load(wrapping, self._live)
        except UnwrapError:
            if not self._new.exists():
                raise self._place.foreign(self._live) from None
            loaded = self._adopt_new(wrapping)
        else:
            if self._new.exists():
                self._new.unlink()
                fsync_directory(self._directory)
        return loaded

    def save(self, index: RingIndex, keys: Mapping[bytes, SealingKey]) -> None:
        """Replace the ring's content durably."""
        wrapping = self._begin()
        self._write_new(wrapping, index, keys)
        self._finish()

    def save_destroying(self, index: RingIndex, keys: Mapping[bytes, SealingKey]) -> None:
        """Replace content and secret, so that nothing in this directory opens what the ring held before."""
        old = self._begin()
        with generate_key() as secret:
            wrapping = wrapping_key(self._master, secret)
            self._write_new(wrapping, index, keys)
            self._place.replace(secret)
        self._wrapping = wrapping
        old.close()
        self._finish()

    def close(self) -> None:
        """Wipe what wraps the ring from memory."""
        if self._wrapping is not None:
            self._wrapping.close()
        self._wrapping = None

    def _adopt_new(self, wrapping: LockedBuffer) -> tuple[RingIndex, Keys]:
        try:
            loaded = _load(wrapping, self._new)
        except UnwrapError as error:
            raise self._place.foreign(self._live) from error
        self._finish()
        return loaded

    def _begin(self) -> LockedBuffer:
        if self._wrapping is None or self._broken:
            raise KeysError(
                "KEYSTORE-STATE",
                "the key ring is closed, or an earlier change of it failed half-way",
                "start the command again: opening the keystore repairs it",
            )
        self._broken = True  # until _finish: what is on disk may differ from what is in memory
        return self._wrapping

    def _write_new(self, wrapping: LockedBuffer, index: RingIndex, keys: Mapping[bytes, SealingKey]) -> None:
        with LockedBuffer(max(1, RECORD_SIZE * len(keys))) as records:
            place = 0
            for key_id in _order(index):
                records.view[place : place + KEY_ID_SIZE] = key_id
                records.view[place + KEY_ID_SIZE : place + RECORD_SIZE] = keys[key_id].private.view
                place += RECORD_SIZE
            write_new_file(self._new, [strongbox.lay_out(wrapping, index, [records.view[:place]])])

    def _finish(self) -> None:
        os.rename(self._new, self._live)
        fsync_directory(self._directory)
        self._broken = False


def _order(index: RingIndex) -> list[bytes]:
    """The ids in the order of the wrapped records."""
    return [key.entry.key_id for key in index.batch_keys] + [
        bytes.fromhex(key.key_id) for key in index.hold_keys
    ]


def _load(wrapping: LockedBuffer, path: Path) -> tuple[RingIndex, Keys]:
    try:
        file = path.read_bytes()
    except FileNotFoundError as error:
        raise UnwrapError from error
    with strongbox.opened(wrapping, file, RingIndex, "key ring") as (index, records):
        public = [bytes.fromhex(key.entry.public_key) for key in index.batch_keys]
        public += [bytes.fromhex(key.public_key) for key in index.hold_keys]
        if records.nbytes != RECORD_SIZE * len(public):
            raise _damaged(path)
        keys: Keys = {}
        for place, public_key in enumerate(public):
            record = records[place * RECORD_SIZE : (place + 1) * RECORD_SIZE]
            key = sealing_key(public_key, LockedBuffer(PRIVATE_KEY_SIZE).copy_from(record[KEY_ID_SIZE:]))
            if key.key_id != record[:KEY_ID_SIZE]:
                raise _damaged(path)
            keys[key.key_id] = key
    return index, keys


def _damaged(path: Path) -> KeysError:
    remedy = "batch and hold keys are lost with it: restore the keystore, or enrol the nodes again"
    return KeysError("KEYSTORE-DAMAGED", f"the key ring {path} is damaged", remedy)
