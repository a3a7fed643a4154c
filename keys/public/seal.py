"""Sealing to a public key: all that an online host can do with a card.

Why here: intake may import this and nothing of keys.private.
Must not: hold, make or accept a private key.
"""

from __future__ import annotations

from nacl.bindings import crypto_box_seal, crypto_box_SEALBYTES

from keys.public.digest import digest

PUBLIC_KEY_SIZE = 32
KEY_ID_SIZE = 16
SEAL_OVERHEAD: int = crypto_box_SEALBYTES


def key_id(public_key: bytes) -> bytes:
    """The 16-byte name of a sealing key (FORMAT.md, section 2)."""
    return digest("key-id", public_key, size=KEY_ID_SIZE)


def seal(message: bytes, public_key: bytes) -> bytes:
    """A libsodium sealed box (X25519, XSalsa20-Poly1305), 48 bytes longer than ``message``."""
    return crypto_box_seal(message, public_key)
