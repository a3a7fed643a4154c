"""The offline keystore: one directory, opened with one passphrase.

Why here: all private keys of the offline side are made, kept and found in this one place.
Must not: exist half-made, be opened by two processes at once, or let a rehearsal pass for the real thing.

``master.key`` holds a random master key under the passphrase (the one Argon2id run). The master wraps
``keys`` (identity, vault key, order keys) and ``ring.secret``, which wraps ``ring``; ``lock`` is held while
open.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from keys import keyfile
from keys.durable import fsync_directory, make_directory
from keys.entries import sign_entry
from keys.errors import KeysError
from keys.keystore_file import MASTER_NAME, OrderKey, damaged, load, write_new
from keys.private.locked import zero_stack
from keys.private.secretbox import generate_key
from keys.public.roll import KeyEntry, KeyRoll, Role
from keys.ring import KeyRing

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from keys.private.locked import LockedBuffer
    from keys.private.sign import SigningKey
    from keys.private.unseal import SealingKey

DAY: Final = 24 * 3600
ORDER_SEAL: Final = 180 * DAY
ORDER_DESTROY: Final = 400 * DAY
BATCH_SEAL: Final = 14 * DAY
BATCH_DESTROY: Final = 28 * DAY
_LOCK: Final = "lock"
_KINDS: Final = (keyfile.Kind.KEYSTORE, keyfile.Kind.REHEARSAL)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Keystore:
    """An open keystore. Leaving its ``with`` block (or ``close``) wipes every key and lets go of the lock."""

    path: Path
    rehearsal: bool
    epoch: int
    made_at: int
    identity: SigningKey
    vault_key: LockedBuffer
    order_keys: tuple[OrderKey, ...]
    ring: KeyRing
    _master: LockedBuffer
    _lock: int

    @classmethod
    def create(
        cls,
        path: Path,
        passphrase: LockedBuffer,
        *,
        rehearsal: bool,
        now: int,
        order_seal: int = ORDER_SEAL,
        order_destroy: int = ORDER_DESTROY,
    ) -> Self:
        """Make all keys, durably or not at all, and open the keystore.

        Raises ``KEYSTORE-EXISTS`` or ``KEYSTORE-BUSY``. ``order_seal`` and ``order_destroy`` are the
        order key's cryptoperiod in seconds from ``now``.
        """
        _refuse_existing(path)
        # Nothing of an unfinished creation was ever shown to anyone, so the next one starts from nothing.
        building = path.with_name(f".{path.name}.creating")
        make_directory(building)
        with contextlib.ExitStack() as undo:
            lock = _take_lock(building)
            undo.callback(os.close, lock)
            _refuse_existing(path)
            for leftover in building.iterdir():
                if leftover.name != _LOCK:
                    leftover.unlink()
            undo.callback(shutil.rmtree, building, ignore_errors=True)
            master = undo.enter_context(generate_key())
            cryptoperiod = (now, now + order_seal, now + order_destroy)
            write_new(building, passphrase, master, rehearsal=rehearsal, order_times=cryptoperiod)
            os.rename(building, path)
            fsync_directory(path.parent)
            keystore = cls._load(path, keyfile.read_header(path / MASTER_NAME), master, lock)
            undo.pop_all()
        return keystore

    @classmethod
    def open(cls, path: Path, passphrase: LockedBuffer) -> Self:
        """Load all keys into locked memory, and settle what a crash left of a change.

        Raises ``KEYSTORE-MISSING``, ``KEYSTORE-BUSY``, ``KEYSTORE-DAMAGED``, ``KEY-PASSPHRASE``,
        ``KEY-FILE-DAMAGED`` or ``KEY-FILE-MODE``.
        """
        if not (path / MASTER_NAME).exists():
            remedy = "make it with `key-ceremony init`, or correct [keystore] path"
            raise KeysError("KEYSTORE-MISSING", f"there is no keystore at {path}", remedy)
        with contextlib.ExitStack() as undo:
            lock = _take_lock(path)
            undo.callback(os.close, lock)
            header, master = keyfile.read(path / MASTER_NAME, _KINDS, passphrase)
            undo.callback(master.close)
            keystore = cls._load(path, header, master, lock)
            undo.pop_all()
        return keystore

    def order_key(self, key_id: bytes) -> SealingKey | None:
        """The order key of this 16-byte id; None when it is not ours."""
        return next((order.key for order in self.order_keys if order.key.key_id == key_id), None)

    def order_entries(self, node: str, now: int) -> list[KeyEntry]:
        """The order keys that may still be sealed to, signed for ``node``, the newest last."""
        return [
            sign_entry(
                self.identity,
                role=Role.ORDER,
                node=node,
                epoch=self.epoch,
                number=order.number,
                public_key=order.key.public_key,
                seal_until=order.seal_until,
                destroy_at=order.destroy_at,
            )
            for order in self.order_keys
            if now < order.seal_until
        ]

    def issue_batch_keys(
        self, node: str, count: int, *, now: int, seal: int = BATCH_SEAL, destroy: int = BATCH_DESTROY
    ) -> list[KeyEntry]:
        """``KeyRing.issue_batch_keys`` with this identity; ``seal``, ``destroy`` in seconds from ``now``."""
        return self.ring.issue_batch_keys(
            node, count, identity=self.identity, now=now, seal_until=now + seal, destroy_at=now + destroy
        )

    def make_roll(self, node: str, *, now: int) -> KeyRoll:
        """The next key roll of ``node``: the order keys and its unused batch keys. ``KEY-NODE-UNKNOWN``."""
        return self.ring.make_roll(node, order_keys=self.order_entries(node, now), now=now)

    def close(self) -> None:
        """Wipe every key from memory and let go of the lock; a second time does nothing."""
        if self._master.pointer is None:
            return
        for order in self.order_keys:
            order.key.close()
        self.ring.close()
        self.identity.close()
        self.vault_key.close()
        self._master.close()
        zero_stack()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @classmethod
    def _load(cls, path: Path, header: keyfile.Header, master: LockedBuffer, lock: int) -> Self:
        kept = load(path, master)
        ring = KeyRing.open(path, master)
        # The passphrase authenticates what master.key says, the master key what `keys` and `ring` say.
        stated = (header.kind is keyfile.Kind.REHEARSAL, header.public_key, ring.epoch)
        if stated != (kept.rehearsal, kept.identity.public_key.hex(), kept.epoch):
            raise damaged(path)
        return cls(
            path=path,
            rehearsal=kept.rehearsal,
            epoch=kept.epoch,
            made_at=kept.made_at,
            identity=kept.identity,
            vault_key=kept.vault_key,
            order_keys=kept.order_keys,
            ring=ring,
            _master=master,
            _lock=lock,
        )


def claims_rehearsal(path: Path) -> bool:
    """What the keystore says before it is opened: for prompts only, ``Keystore.rehearsal`` decides."""
    try:
        return keyfile.read_header(path / MASTER_NAME).kind is keyfile.Kind.REHEARSAL
    except KeysError:
        return False


def _take_lock(directory: Path) -> int:
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        remedy = "wait until the other command has ended"
        raise KeysError("KEYSTORE-BUSY", f"another command has {directory} open", remedy) from None
    return descriptor


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        remedy = "keys are never overwritten: choose another place, or move the old keystore away"
        raise KeysError("KEYSTORE-EXISTS", f"{path} exists already", remedy)
