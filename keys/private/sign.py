"""Signing with Ed25519 (RFC 8032), as raw signatures and as minisign files.

Why here: the secret stays in locked memory, and another library checks each signature before it leaves.
Must not: sign what it did not verify afterwards, or accept a secret that does not belong to its public key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keys.errors import KeysError
from keys.private import sodium
from keys.private.locked import LockedBuffer
from keys.public.minisign import MinisignPublicKey, prehash, signature_text
from keys.public.verify import SIGNATURE_SIZE

SEED_SIZE: Final = 32
_SECRET_SIZE: Final = 64
_PUBLIC_SIZE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SigningKey:
    """An Ed25519 key pair: 32-byte public key, and the 64-byte secret (seed || public) in locked memory."""

    public_key: bytes
    secret: LockedBuffer = field(repr=False)

    @property
    def seed(self) -> memoryview:
        """The 32 bytes that are stored; a view into locked memory."""
        return self.secret.view[:SEED_SIZE]

    @property
    def minisign(self) -> MinisignPublicKey:
        """The public key as minisign writes it."""
        return MinisignPublicKey(public_key=self.public_key)

    def close(self) -> None:
        """Wipe the secret."""
        self.secret.close()


def generate_signing_key() -> SigningKey:
    """A new key pair from the system's randomness."""
    with LockedBuffer(SEED_SIZE) as seed:
        sodium.lib.randombytes(seed.pointer, SEED_SIZE)
        return signing_key(seed.view)


def signing_key(seed: memoryview) -> SigningKey:
    """The key pair of a stored 32-byte seed, which is copied."""
    if seed.nbytes != SEED_SIZE:
        raise ValueError("an Ed25519 seed has 32 bytes")
    public = bytearray(_PUBLIC_SIZE)
    secret = LockedBuffer(_SECRET_SIZE)
    made = sodium.lib.crypto_sign_seed_keypair(
        sodium.from_buffer(public), secret.pointer, sodium.from_buffer(seed)
    )
    if made != 0:
        raise AssertionError("libsodium failed to make a signing key")
    return SigningKey(public_key=bytes(public), secret=secret)


def sign(key: SigningKey, message: bytes) -> bytes:
    """The 64-byte signature of ``message``, verified with `cryptography` before it is returned."""
    signature = bytearray(SIGNATURE_SIZE)
    place = sodium.address_of(sodium.from_buffer(signature))
    if sodium.sign_detached(place, None, message, len(message), key.secret.address) != 0:
        raise AssertionError("libsodium failed to sign")
    released = bytes(signature)
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(released, message)
    except InvalidSignature as error:
        raise KeysError(
            "KEY-SIGNATURE",
            "a fresh signature does not verify, so it was not released",
            "this machine computes wrongly or the key in memory is damaged: stop, and check the machine",
        ) from error
    return released


def sign_file(key: SigningKey, message: bytes, trusted_comment: str) -> str:
    """The text of a ``.minisig`` file for ``message`` (prehashed form), as `minisign -V` verifies it."""
    if "\n" in trusted_comment or "\r" in trusted_comment:
        raise ValueError("a trusted comment is one line")
    signature = sign(key, prehash(message))
    whole = sign(key, signature + trusted_comment.encode("utf-8"))
    return signature_text(key.minisign, signature, trusted_comment, whole)
