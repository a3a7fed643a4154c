"""Where a command gets the keystore's passphrase from: descriptor, configured file, or terminal, in this order.

Why here: key-ceremony and offline-processor must ask in the same way.
Must not: keep a passphrase after it was handed over, or judge one that exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keys.keystore import claims_rehearsal
from keys.private.passphrase import read_passphrase

if TYPE_CHECKING:
    from keys.config import KeystoreConfig
    from keys.private.locked import LockedBuffer


def keystore_passphrase(settings: KeystoreConfig, descriptor: int | None) -> LockedBuffer:
    """The passphrase of an existing keystore; close it when the keystore is open.

    Raises as ``read_passphrase`` does.
    """
    prompt = "REHEARSAL passphrase" if claims_rehearsal(settings.path) else "Passphrase of the keystore"
    return read_passphrase(file=settings.passphrase_file, descriptor=descriptor, prompt=prompt)


def new_keystore_passphrase(
    settings: KeystoreConfig, descriptor: int | None, *, rehearsal: bool
) -> LockedBuffer:
    """The passphrase of a keystore that is about to be made: asked twice on a terminal, never a short one."""
    prompt = "New REHEARSAL passphrase" if rehearsal else "New passphrase"
    return read_passphrase(file=settings.passphrase_file, descriptor=descriptor, prompt=prompt, new=True)
