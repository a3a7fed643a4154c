"""Checking an Ed25519 signature (RFC 8032).

Why here: both sides of the gap verify; only the owner of a key signs.
Must not: say more about a bad signature than that it is bad.
"""

from __future__ import annotations

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

SIGNATURE_SIZE = 64


def signature_is_good(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """True when ``signature`` (64 bytes) over ``message`` is by ``public_key`` (32 bytes)."""
    if len(signature) != SIGNATURE_SIZE:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except (BadSignatureError, ValueError):
        return False
    return True
