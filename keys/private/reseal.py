"""Sealing what lies in locked memory to another key, without a copy of it outside.

Why here: a held order's card goes from the batch key to its hold key, and both ends are secrets.
Must not: be used online; intake seals with keys.public.seal.
"""

from __future__ import annotations

from keys.private import sodium
from keys.public.seal import SEAL_OVERHEAD


def seal_view(secret: memoryview, public_key: bytes) -> bytes:
    """A sealed box of ``secret`` (a view of locked memory), 48 bytes longer."""
    box = bytearray(secret.nbytes + SEAL_OVERHEAD)
    made = sodium.lib.crypto_box_seal(
        sodium.from_buffer(box), sodium.from_buffer(secret), secret.nbytes, public_key
    )
    if made != 0:
        raise AssertionError("libsodium refused to seal to this public key")
    return bytes(box)
