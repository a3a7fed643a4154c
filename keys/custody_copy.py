"""The custody copy: all that must outlive the offline machine, sealed to the key that M of N custodians rebuild.

Why here: what is in a copy, how it is told to be whole, and what a new epoch starts with, belong together.
Must not: hold a batch or hold key, or be believed before its signature was checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keys.keystore_file import LongLivedKeys
    from keys.private.unseal import SealingKey
    from keys.ring_index import RingBackend, RingIndex


def sealed(keys: LongLivedKeys, ring: RingIndex, now: int) -> bytes:
    """The copy of this moment. ``CUSTODY-NONE`` when the keystore has no custody."""
    raise NotImplementedError


def opened(
    copy: bytes, custody_key: SealingKey, *, now: int, epoch_above: int, ring_backend: RingBackend
) -> tuple[LongLivedKeys, RingIndex]:
    """What a recovered keystore starts with. ``CUSTODY-DAMAGED``, ``CUSTODY-OTHER``."""
    raise NotImplementedError
