"""The end of a keystore: everything in it is destroyed for good, on the disk and in the TPM.

Why here: only what is no keystore any more may be overwritten, and what a crash leaves of it must be ended too.
Must not: begin while keys of waiting orders live, unless a person has named that risk.

The directory is renamed first, in one durable step: from then on there is no keystore, and nothing in it is needed
to go on. So `finish` ends it after a crash as well, without a passphrase.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from keys.durable import erase, fsync_directory
from keys.errors import KeysError
from keys.keystore_place import LOCK_NAME, take_lock
from keys.private.ring_secret_tpm import NAME as TPM_NAME
from keys.private.ring_secret_tpm import discard as release_index
from keys.public.fingerprint import fingerprint
from keys.record_form import Change, ChangedKey, Subject
from keys.recovery import copy_beside

if TYPE_CHECKING:
    from pathlib import Path

    from keys.keystore import Keystore


def refuse_live_keys(keystore: Keystore, *, lost_orders: bool) -> None:
    """Refuse (``KEYSTORE-LIVE-KEYS``) while batch or hold keys live, unless it is accepted that orders are lost."""
    batch, hold = keystore.ring.batch_records(), keystore.ring.hold_records()
    if (batch or hold) and not lost_orders:
        raise KeysError(
            "KEYSTORE-LIVE-KEYS",
            f"{len(batch)} batch keys and {len(hold)} hold keys live: the cards of orders that wait for them would "
            "be lost",
            "process what the nodes have cut, then `offline-processor retire NODE` for each node; where the orders "
            "are settled otherwise, name the risk with --lost-orders",
        )


def doomed(keystore: Keystore) -> list[ChangedKey]:
    """Every key that the discarding destroys, for its record."""
    orders = [(Subject.ORDER_KEY, key.number, key.key.key_id.hex(), None) for key in keystore.order_keys]
    batch = [
        (Subject.BATCH_KEY, key.entry.number, key.entry.key_id.hex(), key.entry.node)
        for key in keystore.ring.batch_records()
    ]
    hold = [(Subject.HOLD_KEY, None, key.key_id, None) for key in keystore.ring.hold_records()]
    identity = (Subject.IDENTITY, None, fingerprint(keystore.identity.public_key), None)
    return [
        ChangedKey(subject=subject, change=Change.DESTROYED, key=key, number=number, node=node)
        for subject, number, key, node in (identity, *orders, *batch, *hold)
    ]


def put_aside(path: Path) -> None:
    """From here on there is no keystore at ``path``; what is left of it, ``finish`` destroys."""
    os.rename(path, _aside(path))
    fsync_directory(path.parent)


def is_unfinished(path: Path) -> bool:
    """True when a discarding of the keystore at ``path`` was cut short."""
    return _aside(path).is_dir()


def finish(path: Path) -> None:
    """Overwrite every file, give back the TPM's index, and remove the directory and the copy beside it.

    Raises what the TPM refuses; then the command can be repeated.
    """
    aside = _aside(path)
    lock = take_lock(aside)  # refuses while the keystore is open elsewhere
    try:
        for file in sorted(aside.iterdir()):
            if file.name not in {LOCK_NAME, TPM_NAME}:
                erase(file)
        fsync_directory(aside)
        # Last: a chip that does not answer must not keep secrets on the disk; which index it is, is no secret.
        release_index(aside)
        (aside / LOCK_NAME).unlink()
    finally:
        os.close(lock)
    aside.rmdir()
    if os.path.lexists(path):
        return  # a newer keystore: the copy beside is its
    beside = copy_beside(path)
    for place in (beside, *(beside.with_name(f"{beside.name}.{end}") for end in ("new", "old"))):
        if place.exists():
            erase(place)
    fsync_directory(path.parent)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.discarded")
