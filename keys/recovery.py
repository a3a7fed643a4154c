"""After the loss of the offline machine: the keystore rebuilt from a custody copy by a quorum.

Why here: the ceremony proves with it that the shares work, the recovery command does it in earnest.
Must not: pretend that batch keys come back, or leave half a keystore behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from keys import custody_copy, keystore_place
from keys.durable import (
    create_durable,
    fsync_directory,
    make_directory,
    replace_erasing,
    settle_erasing,
    write_durable,
)
from keys.errors import KeysError
from keys.keystore import Keystore
from keys.public.fingerprint import fingerprint, words
from keys.record_facts import lost_keys, record_act
from keys.record_form import Act, LostKeys
from keys.ring_index import RingBackend

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from keys.custody import Custody
    from keys.private.locked import LockedBuffer
    from keys.private.unseal import SealingKey
    from keys.software import Software

COPY_NAME: Final = "custody.copy"
_PUBLIC_MODE: Final = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A recovered keystore. ``lost`` names the batch keys that are gone, by node."""

    rehearsal: bool
    keystore: Path
    output: Path
    fingerprint: str
    words: str
    epoch: int
    order_keys: int
    nodes: tuple[str, ...]
    lost: tuple[LostKeys, ...]


def read_copy(path: Path) -> bytes:
    """The bytes of a custody copy's file. ``CUSTODY-MISSING``."""
    try:
        with path.open("rb") as file:
            raw = file.read(custody_copy.SIZE_LIMIT + 1)
    except OSError as error:
        remedy = "name the newest custody.copy: from the ceremony's output, or out of the newest backup"
        raise KeysError("CUSTODY-MISSING", f"cannot read {path}: {error.strerror}", remedy) from error
    if len(raw) > custody_copy.SIZE_LIMIT:
        raise KeysError("CUSTODY-MISSING", f"{path} is larger than any custody copy")
    return raw


def refuse_existing(keystore: Path, output: Path) -> None:
    """Refuse (``KEYSTORE-EXISTS``, ``CEREMONY-EXISTS``) before anyone is asked for a share."""
    keystore_place.refuse_existing(keystore)
    if os.path.lexists(output):
        raise KeysError("CEREMONY-EXISTS", f"{output} exists already", "choose another directory with --out")


def recover(
    copy: bytes,
    custody_key: SealingKey,
    passphrases: Sequence[LockedBuffer],
    *,
    keystore_path: Path,
    output: Path,
    epoch_above: int,
    ring_backend: RingBackend,
    software: Software,
    title: str,
    now: int,
) -> Recovered:
    """Build the keystore anew, with a fresh custody copy and a signed record in ``output``.

    Raises what ``Keystore.recover`` raises; then nothing is left behind.
    """
    refuse_existing(keystore_path, output)
    aside, out_aside = (path.with_name(f".{path.name}.recovery") for path in (keystore_path, output))
    with contextlib.ExitStack() as undo:
        undo.callback(_remove, aside, out_aside)
        _remove(aside, out_aside)
        make_directory(keystore_path.parent)
        make_directory(out_aside, 0o755)
        with Keystore.recover(
            aside,
            passphrases,
            copy,
            custody_key,
            now=now,
            epoch_above=epoch_above,
            ring_backend=ring_backend,
        ) as keystore:
            fresh = keystore.custody_copy(now)
            create_durable(out_aside / COPY_NAME, fresh, _PUBLIC_MODE)
            record_act(
                keystore,
                out_aside,
                act=Act.RECOVERY,
                title=title,
                files=[COPY_NAME],
                software=software,
                passphrases=len(passphrases),
                now=now,
            )
            recovered = Recovered(
                rehearsal=keystore.rehearsal,
                keystore=keystore_path,
                output=output,
                fingerprint=fingerprint(keystore.identity.public_key),
                words=words(keystore.identity.public_key),
                epoch=keystore.epoch,
                order_keys=len(keystore.order_keys),
                nodes=tuple(node.node for node in keystore.ring.nodes() if node.retired_at is None),
                lost=lost_keys(keystore),
            )
        os.rename(out_aside, output)
        fsync_directory(output.parent)
        os.rename(aside, keystore_path)
        fsync_directory(keystore_path.parent)
        undo.pop_all()
    with contextlib.suppress(OSError):  # it is recovered; `status` says so when this copy is missing
        put_beside(copy_beside(keystore_path), fresh)
    return recovered


def prove_opens(path: Path, custody_key: SealingKey, now: int) -> None:
    """Open a custody copy that is kept. ``CUSTODY-DAMAGED``, or ``CUSTODY-OTHER`` for one of another share set."""
    kept, _ = custody_copy.opened(
        read_copy(path), custody_key, now=now, epoch_above=0, ring_backend=RingBackend.FILE
    )
    kept.close()


def prove_copy(keystore: Keystore, custody_key: SealingKey, now: int, custody: Custody | None = None) -> None:
    """Open a fresh custody copy of ``keystore`` and compare every key in it. ``CUSTODY-OTHER`` when one differs.

    ``custody``: one that the keystore has not taken over yet.
    """
    copy = keystore.custody_copy(now, custody)
    kept, _ = custody_copy.opened(
        copy, custody_key, now=now, epoch_above=0, ring_backend=keystore.ring_backend
    )
    with contextlib.closing(kept):
        ours = [keystore.identity.seed, keystore.vault_key.view]
        ours += [order.key.private.view for order in keystore.order_keys]
        theirs = [kept.identity.seed, kept.vault_key.view, *(key.private.view for key in kept.order_private)]
        same = len(ours) == len(theirs) and all(a == b for a, b in zip(ours, theirs, strict=True))
    if not same:
        raise KeysError(
            "CUSTODY-OTHER",
            "the custody copy opens, and other keys are in it than in the keystore",
            "rely on nothing; keep everything as it is and have the software looked at",
        )


def refresh_copy(keystore: Keystore, now: int) -> Path | None:
    """Write the custody copy beside the keystore anew, after a change that must outlive this machine.

    None for a keystore without custodians. Carry the file to the media that keep it.
    """
    if keystore.custody is None:
        return None
    place = copy_beside(keystore.path)
    put_beside(place, keystore.custody_copy(now))
    return place


def copy_beside(keystore: Path) -> Path:
    """Where the newest custody copy of this machine is."""
    return keystore.with_name(f"{keystore.name}.custody")


def put_beside(place: Path, copy: bytes) -> None:
    """Put ``copy`` in place of an older one, of which nothing is left."""
    settle_erasing(place)
    if place.exists():
        replace_erasing(place, copy)  # the older one may have an order key that is destroyed by now
    else:
        write_durable(place, copy)


def _remove(keystore: Path, output: Path) -> None:
    keystore_place.abandon(keystore)
    if os.path.lexists(output):
        shutil.rmtree(output)
