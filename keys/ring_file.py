"""The key ring on disk: saved whole, and saved under a new secret when keys are destroyed.

Why here: which file holds what after a crash at any step is one question, answered in one place.
Must not: know what the keys are for.

``ring`` is a strongbox under the ring secret. A plain save writes ``ring.new`` and renames it. A destruction
makes ``ring.new`` durable under the new secret, replaces the secret, then renames. So after a crash the live
secret opens either ``ring`` (what did not finish is dropped) or ``ring.new`` (what is destroyed stays so).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from keys.durable import fsync_directory, write_new_file
from keys.errors import KeysError
from keys.private import strongbox
from keys.private.locked import LockedBuffer
from keys.private.ring_secret import FileRingSecret
from keys.private.secretbox import UnwrapError, generate_key
from keys.private.unseal import PRIVATE_KEY_SIZE, SealingKey, sealing_key
from keys.public.seal import KEY_ID_SIZE
from keys.ring_index import RingIndex

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RECORD_SIZE: Final = KEY_ID_SIZE + PRIVATE_KEY_SIZE

Keys = dict[bytes, SealingKey]


class RingFile:
    """The ring's files in the keystore's directory, and the live ring secret in locked memory."""

    __slots__ = ("_broken", "_directory", "_live", "_new", "_secret", "_secret_file")

    def __init__(self, directory: Path, master: LockedBuffer) -> None:
        self._directory = directory
        self._live = directory / "ring"
        self._new = directory / "ring.new"
        self._secret_file = FileRingSecret(directory, master)
        self._secret: LockedBuffer | None = None
        self._broken = False

    def create(self, index: RingIndex) -> None:
        """Write the first, empty ring; the caller makes the directory durable."""
        self._secret = generate_key()
        self._secret_file.create(self._secret)
        write_new_file(self._live, [strongbox.lay_out(self._secret, index, [])])

    def open(self) -> tuple[RingIndex, Keys]:
        """Load the ring, after settling what a crash left. ``KEYSTORE-DAMAGED`` when it is not whole."""
        self._secret_file.settle()
        secret = self._secret = self._secret_file.read()
        try:
            loaded = _load(secret, self._live)
        except UnwrapError:
            if not self._new.exists():
                raise _damaged(self._live) from None
            loaded = self._adopt_new(secret)
        else:
            if self._new.exists():
                self._new.unlink()
                fsync_directory(self._directory)
        return loaded

    def save(self, index: RingIndex, keys: Mapping[bytes, SealingKey]) -> None:
        """Replace the ring's content durably."""
        secret = self._begin()
        self._write_new(secret, index, keys)
        self._finish()

    def save_destroying(self, index: RingIndex, keys: Mapping[bytes, SealingKey]) -> None:
        """Replace content and secret, so that nothing in this directory opens what the ring held before."""
        old = self._begin()
        secret = generate_key()
        self._write_new(secret, index, keys)
        self._secret_file.replace(secret)
        self._secret = secret
        old.close()
        self._finish()

    def close(self) -> None:
        """Wipe the ring secret from memory."""
        if self._secret is not None:
            self._secret.close()
        self._secret = None

    def _adopt_new(self, secret: LockedBuffer) -> tuple[RingIndex, Keys]:
        try:
            loaded = _load(secret, self._new)
        except UnwrapError as error:
            raise _damaged(self._live) from error
        self._finish()
        return loaded

    def _begin(self) -> LockedBuffer:
        if self._secret is None or self._broken:
            raise KeysError(
                "KEYSTORE-STATE",
                "the key ring is closed, or an earlier change of it failed half-way",
                "start the command again: opening the keystore repairs it",
            )
        self._broken = True  # until _finish: what is on disk may differ from what is in memory
        return self._secret

    def _write_new(self, secret: LockedBuffer, index: RingIndex, keys: Mapping[bytes, SealingKey]) -> None:
        with LockedBuffer(max(1, RECORD_SIZE * len(keys))) as records:
            place = 0
            for key_id in _order(index):
                records.view[place : place + KEY_ID_SIZE] = key_id
                records.view[place + KEY_ID_SIZE : place + RECORD_SIZE] = keys[key_id].private.view
                place += RECORD_SIZE
            write_new_file(self._new, [strongbox.lay_out(secret, index, [records.view[:place]])])

    def _finish(self) -> None:
        os.rename(self._new, self._live)
        fsync_directory(self._directory)
        self._broken = False


def _order(index: RingIndex) -> list[bytes]:
    """The ids in the order of the wrapped records."""
    return [key.entry.key_id for key in index.batch_keys] + [
        bytes.fromhex(key.key_id) for key in index.hold_keys
    ]


def _load(secret: LockedBuffer, path: Path) -> tuple[RingIndex, Keys]:
    try:
        file = path.read_bytes()
    except FileNotFoundError as error:
        raise UnwrapError from error
    with strongbox.opened(secret, file, RingIndex, "key ring") as (index, records):
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
