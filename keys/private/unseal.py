"""Opening sealed boxes, straight from the envelope's bytes into locked memory.

Why here: a card must never be a Python object, so the one function that opens it writes into a locked slot.
Must not: try keys (the caller names the key), know what is in a box, or open a card with ``open_box``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from keys.errors import KeysError
from keys.private import sodium
from keys.private.locked import LockedBuffer
from keys.public.seal import PUBLIC_KEY_SIZE, SEAL_OVERHEAD, key_id

PRIVATE_KEY_SIZE: Final = 32

_from_buffer = sodium.from_buffer
_seal_open = sodium.lib.crypto_box_seal_open


class UnsealError(KeysError):
    """A box that this key does not open: damaged, cut short, or sealed to another key."""

    def __init__(self) -> None:
        super().__init__("KEY-UNSEAL", "a sealed box does not open with the key that it names")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SealingKey:
    """An X25519 key pair: 16-byte key id, 32-byte public key, and the private key in locked memory."""

    key_id: bytes
    public_key: bytes
    private: LockedBuffer = field(repr=False)

    def close(self) -> None:
        """Wipe the private key."""
        self.private.close()


def generate_sealing_key() -> SealingKey:
    """A new key pair from the system's randomness."""
    private = LockedBuffer(PRIVATE_KEY_SIZE)
    public = bytearray(PUBLIC_KEY_SIZE)
    if sodium.lib.crypto_box_keypair(_from_buffer(public), private.pointer) != 0:
        raise AssertionError("libsodium failed to make a key pair")
    return sealing_key(bytes(public), private)


def sealing_key(public_key: bytes, private: LockedBuffer) -> SealingKey:
    """Name a key pair that was stored; ``private`` belongs to the result."""
    return SealingKey(key_id=key_id(public_key), public_key=public_key, private=private)


def public_key_of(private: LockedBuffer) -> bytes:
    """Compute the public key again, to check what was read from a file."""
    public = bytearray(PUBLIC_KEY_SIZE)
    if sodium.lib.crypto_scalarmult_base(_from_buffer(public), private.pointer) != 0:
        raise AssertionError("libsodium failed to compute a public key")
    return bytes(public)


def open_box_into(box: bytes | memoryview, public_key: bytes, private: LockedBuffer, out: memoryview) -> None:
    """Open ``box`` into ``out``, which must be 48 bytes shorter. ``UnsealError`` leaves ``out`` unchanged.

    ``public_key`` (32 bytes) must belong to ``private``. Called once a card: one C call, no copies.
    Call ``zero_stack`` after a window of these.
    """
    size = len(box)
    if size != out.nbytes + SEAL_OVERHEAD or len(public_key) != PUBLIC_KEY_SIZE:
        raise UnsealError
    # cffi passes bytes by address; any other buffer has to be asked for its address first.
    source = box if type(box) is bytes else _from_buffer(box)
    if _seal_open(_from_buffer(out), source, size, public_key, private.pointer) != 0:
        raise UnsealError


def open_box(box: bytes | memoryview, public_key: bytes, private: LockedBuffer) -> bytes:
    """Open an *order* compartment as ordinary bytes, to be parsed. Never a card. ``UnsealError``."""
    size = len(box) - SEAL_OVERHEAD
    if size < 0:
        raise UnsealError
    plaintext = bytearray(size)
    open_box_into(box, public_key, private, memoryview(plaintext))
    return bytes(plaintext)
