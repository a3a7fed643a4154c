"""Wrapping under a symmetric key (XSalsa20-Poly1305), straight between buffers.

Why here: key files, the key ring and the vault wrap secrets that must not pass through Python objects.
Must not: be trusted to tell *which* wrapped value this is: all boxes under one key are exchangeable. The
caller puts a name into the plaintext (a vault row its order id, a key file its header's digest) and compares
it after opening. A key derived for every name would do the same, at a hash and a locked slot for every row.
"""

from __future__ import annotations

import os
from typing import Final

from keys.errors import KeysError
from keys.private import sodium
from keys.private.locked import LockedBuffer

KEY_SIZE: Final = 32
NONCE_SIZE: Final = 24
WRAP_OVERHEAD: Final = NONCE_SIZE + 16

_from_buffer = sodium.from_buffer
_easy = sodium.lib.crypto_secretbox_easy
_open_easy = sodium.lib.crypto_secretbox_open_easy


class UnwrapError(KeysError):
    """A wrapped value that this key does not open: damaged, or wrapped under another key."""

    def __init__(self) -> None:
        super().__init__("KEY-UNWRAP", "a wrapped value does not open with this key")


def generate_key() -> LockedBuffer:
    """A new 32-byte key from the system's randomness."""
    key = LockedBuffer(KEY_SIZE)
    sodium.lib.randombytes(key.pointer, KEY_SIZE)
    return key


def wrap(key: LockedBuffer, plaintext: bytes | memoryview) -> bytes:
    """``nonce || box`` of ``plaintext``, 40 bytes longer. The nonce is random (192 bits)."""
    size = len(plaintext)
    nonce = os.urandom(NONCE_SIZE)
    box = bytearray(size + WRAP_OVERHEAD - NONCE_SIZE)
    source = plaintext if type(plaintext) is bytes else _from_buffer(plaintext)
    if _easy(_from_buffer(box), source, size, nonce, key.pointer) != 0:
        raise AssertionError("libsodium failed to wrap")
    return nonce + box


def unwrap_into(key: LockedBuffer, wrapped: bytes | memoryview, out: memoryview) -> None:
    """Open what ``wrap`` made into ``out`` (40 bytes shorter). ``UnwrapError`` leaves ``out`` unchanged."""
    size = len(wrapped) - NONCE_SIZE
    if size != out.nbytes + WRAP_OVERHEAD - NONCE_SIZE:
        raise UnwrapError
    source = _from_buffer(wrapped)
    if _open_easy(_from_buffer(out), source + NONCE_SIZE, size, source, key.pointer) != 0:
        raise UnwrapError
