"""minisign's public keys and signature files, so that plain `minisign -V` checks what we sign.

Why here: receivers on both sides verify manifests and key rolls with it; nothing here can sign.
Must not: accept the legacy (not prehashed) algorithm or another trusted comment than the one expected.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from keys.errors import KeysError
from keys.public.digest import digest, equal
from keys.public.verify import SIGNATURE_SIZE, signature_is_good

KEY_ALGORITHM = b"Ed"
SIGNATURE_ALGORITHM = b"ED"
_UNTRUSTED = "untrusted comment: "
_SIGNATURE_LINE = _UNTRUSTED + "verify with minisign"
_TRUSTED = "trusted comment: "
_KEY_ID_SIZE = 8
_PUBLIC_KEY_SIZE = 32
_TEXT_LIMIT = 1024
_SIGNATURE_LINES = 4  # each ended


@dataclass(frozen=True, slots=True, kw_only=True)
class MinisignPublicKey:
    """An Ed25519 public key (32 bytes) with minisign's 8-byte key number."""

    public_key: bytes

    @property
    def number(self) -> bytes:
        return digest("minisign-key-number", self.public_key, size=_KEY_ID_SIZE)

    def encode(self) -> str:
        """The text of a minisign ``.pub`` file."""
        packed = base64.b64encode(KEY_ALGORITHM + self.number + self.public_key).decode("ascii")
        return f"{_UNTRUSTED}minisign public key {self.number[::-1].hex().upper()}\n{packed}\n"

    @classmethod
    def decode(cls, text: str) -> MinisignPublicKey:
        """Parse a ``.pub`` text of ours; ``KEY-PUBLIC`` when it is not one."""
        lines = text.splitlines()
        if len(text) > _TEXT_LIMIT or len(lines) != 2 or not lines[0].startswith(_UNTRUSTED):  # noqa: PLR2004
            raise not_a_key("this is not the text of a minisign public key")
        packed = _base64(lines[1], len(KEY_ALGORITHM) + _KEY_ID_SIZE + _PUBLIC_KEY_SIZE)
        if packed is None or packed[:2] != KEY_ALGORITHM:
            raise not_a_key("this is not the text of a minisign public key")
        key = cls(public_key=packed[10:])
        if not equal(packed[2:10], key.number):
            raise not_a_key("the key number does not belong to this public key")
        return key


def not_a_key(reason: str) -> KeysError:
    """The refusal of a file that should hold a public key."""
    remedy = "name the identity.pub as it was made, and carry it over again if it was altered on the way"
    return KeysError("KEY-PUBLIC", reason, remedy)


def prehash(message: bytes) -> bytes:
    """What a prehashed minisign signature signs: plain BLAKE2b-512 of the file."""
    return hashlib.blake2b(message).digest()


def signature_text(
    public_key: MinisignPublicKey, signature: bytes, trusted_comment: str, whole: bytes
) -> str:
    """Lay out a ``.minisig`` file from its two signatures (``signature`` of the file, ``whole`` of both)."""
    packed = base64.b64encode(SIGNATURE_ALGORITHM + public_key.number + signature).decode("ascii")
    return (
        f"{_SIGNATURE_LINE}\n{packed}\n"
        f"{_TRUSTED}{trusted_comment}\n{base64.b64encode(whole).decode('ascii')}\n"
    )


def signature_matches(public_key: MinisignPublicKey, message: bytes, text: str, trusted_comment: str) -> bool:
    """True when ``text`` is a prehashed minisign signature of ``message`` by ``public_key`` with just this comment.

    The first line is fixed too, though no signature covers it: a return's signature is carried on in a bundle.
    """
    lines = text.split("\n")
    if len(text) > _TEXT_LIMIT or len(lines) != 5 or lines[4] or lines[0] != _SIGNATURE_LINE:  # noqa: PLR2004
        return False
    packed = _base64(lines[1], len(SIGNATURE_ALGORITHM) + _KEY_ID_SIZE + SIGNATURE_SIZE)
    whole = _base64(lines[3], SIGNATURE_SIZE)
    if packed is None or whole is None or lines[2] != _TRUSTED + trusted_comment:
        return False
    if packed[:2] != SIGNATURE_ALGORITHM or not equal(packed[2:10], public_key.number):
        return False
    signature = packed[10:]
    return signature_is_good(public_key.public_key, prehash(message), signature) and signature_is_good(
        public_key.public_key, signature + trusted_comment.encode("utf-8"), whole
    )


def is_cut_short(text: str) -> bool:
    """True for a signature file of which the end is not there, as a writer leaves it that was interrupted.

    For the words of a refusal only: no such text is ever taken for a signature, and anybody can cut one short.
    """
    first, *rest = text.rstrip("\0").split("\n")  # some file systems have the size before the content
    if not rest:
        return _SIGNATURE_LINE.startswith(first)
    return first == _SIGNATURE_LINE and len(rest) < _SIGNATURE_LINES


def _base64(line: str, size: int) -> bytes | None:
    try:
        packed = base64.b64decode(line.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return packed if len(packed) == size and base64.b64encode(packed).decode("ascii") == line else None
