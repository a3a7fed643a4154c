"""One private key at rest, under a passphrase.

Why here: the node identity (online) and the keystore's master key (offline) are stored in the same form.
Must not: pass a private key or a passphrase through a Python object, or overwrite a file.

Three lines of text: canonical JSON (what it is, public key, Argon2id costs and salt); base64 of
``wrap(argon2id(passphrase), digest("key-file", line 1) || private key)``; hex of BLAKE2b-256 of the first two
lines, so that damage is told apart from a wrong passphrase (`head -n 2 FILE | b2sum -l 256` checks it).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from keys.durable import create_durable, replace_erasing, settle_erasing
from keys.errors import KeysError
from keys.private import sodium
from keys.private.locked import LockedBuffer, zero_stack
from keys.private.passphrase import check_private
from keys.private.secretbox import KEY_SIZE, WRAP_OVERHEAD, UnwrapError, unwrap_into, wrap
from keys.private.sign import SigningKey, signing_key
from keys.public import canonical
from keys.public.digest import DIGEST_SIZE, digest, equal

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_SIZE: Final = 32
_SIZE_LIMIT: Final = 4096
_LINES: Final = 3
_SALT_SIZE: Final = 16
_ALGORITHM: Final = 2  # crypto_pwhash_ALG_ARGON2ID13
_MEBIBYTE: Final = 1024 * 1024


class Kind(StrEnum):
    """What the private key is; authenticated, so a rehearsal cannot pass for the real thing."""

    SIGNING = "signing-key"
    KEYSTORE = "keystore"
    KEYSTORE_FIRST = "keystore-first-half"
    KEYSTORE_SECOND = "keystore-second-half"
    REHEARSAL = "rehearsal-keystore"
    REHEARSAL_FIRST = "rehearsal-keystore-first-half"
    REHEARSAL_SECOND = "rehearsal-keystore-second-half"


@dataclass(frozen=True, slots=True)
class Cost:
    """Argon2id costs: passes over the memory, and its size in bytes."""

    passes: int
    memory: int


MODERATE: Final = Cost(3, 256 * _MEBIBYTE)
INTERACTIVE: Final = Cost(2, 64 * _MEBIBYTE)


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line. The costs are bounded, so that a planted file cannot exhaust the machine."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    kind: Kind
    public_key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    kdf: Annotated[str, msgspec.Meta(pattern=r"^argon2id13$(?!\n)")] = "argon2id13"
    passes: Annotated[int, msgspec.Meta(ge=1, le=10)]
    memory: Annotated[int, msgspec.Meta(ge=8 * _MEBIBYTE, le=1024 * _MEBIBYTE)]
    salt: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$(?!\n)")]


def write_signing_key(
    path: Path, key: SigningKey, passphrase: LockedBuffer, cost: Cost = INTERACTIVE
) -> None:
    """Store an Ed25519 key; ``KEY-FILE-EXISTS`` when ``path`` is taken."""
    create(path, Kind.SIGNING, key.public_key, key.seed, passphrase, cost)


def read_signing_key(path: Path, passphrase: LockedBuffer) -> SigningKey:
    """Load an Ed25519 key and check that it is the one that the file names.

    Raises ``KEY-FILE-MISSING``, ``KEY-FILE-MODE``, ``KEY-FILE-DAMAGED``, ``KEY-FILE-KIND`` or
    ``KEY-PASSPHRASE``.
    """
    header, seed = read(path, (Kind.SIGNING,), passphrase)
    with seed:
        key = signing_key(seed.view)
    if key.public_key.hex() != header.public_key:
        key.close()
        raise _damaged(path)
    return key


def create(
    path: Path, kind: Kind, public_key: bytes, private: memoryview, passphrase: LockedBuffer, cost: Cost
) -> None:
    """Store 32 bytes of ``private`` durably, readable by the owner only; ``KEY-FILE-EXISTS`` when taken."""
    try:
        create_durable(path, _text(kind, public_key, private, passphrase, cost))
    except FileExistsError as error:
        remedy = "keys are never overwritten: choose another place, or move the old file away"
        raise KeysError("KEY-FILE-EXISTS", f"{path} exists already", remedy) from error


def change_passphrase(path: Path, kinds: tuple[Kind, ...], old: LockedBuffer, new: LockedBuffer) -> None:
    """Put the same private key under ``new``, at the same cost, and leave nothing of the old file.

    Raises as ``read`` does; then the file is as it was. After a crash ``durable.settle_erasing`` ends it.
    """
    settle_erasing(path)
    header, private = read(path, kinds, old)
    with private:
        public_key, cost = bytes.fromhex(header.public_key), Cost(header.passes, header.memory)
        replace_erasing(path, _text(header.kind, public_key, private.view, new, cost))


def read_header(path: Path) -> Header:
    """What a key file says about itself, before anyone has given the passphrase; not authenticated."""
    return _parse(path)[0]


def read(path: Path, kinds: tuple[Kind, ...], passphrase: LockedBuffer) -> tuple[Header, LockedBuffer]:
    """The authenticated header and the private key. Raises as ``read_signing_key`` does."""
    header, first_line, wrapped = _parse(path)
    if header.kind not in kinds:
        raise KeysError("KEY-FILE-KIND", f"{path} holds a {header.kind}, not a {kinds[0]}")
    with (
        LockedBuffer(DIGEST_SIZE + PRIVATE_SIZE) as plaintext,
        _stretch(passphrase, bytes.fromhex(header.salt), Cost(header.passes, header.memory)) as key,
    ):
        try:
            unwrap_into(key, wrapped, plaintext.view)
        except UnwrapError as error:
            remedy = "the file is whole: type the passphrase again, and check the keyboard layout"
            raise KeysError("KEY-PASSPHRASE", f"this is not the passphrase of {path}", remedy) from error
        if not equal(plaintext.view[:DIGEST_SIZE], digest("key-file", first_line)):
            raise _damaged(path)
        private = LockedBuffer(PRIVATE_SIZE).copy_from(plaintext.view[DIGEST_SIZE:])
    zero_stack()
    return header, private


def _text(kind: Kind, public_key: bytes, private: memoryview, passphrase: LockedBuffer, cost: Cost) -> bytes:
    salt = os.urandom(_SALT_SIZE)
    header = Header(
        kind=kind, public_key=public_key.hex(), passes=cost.passes, memory=cost.memory, salt=salt.hex()
    )
    first_line = canonical.encode(header)
    with (
        LockedBuffer(DIGEST_SIZE + PRIVATE_SIZE) as plaintext,
        _stretch(passphrase, salt, cost) as key,
    ):
        plaintext.view[:DIGEST_SIZE] = digest("key-file", first_line)
        plaintext.view[DIGEST_SIZE:] = private
        lines = first_line + b"\n" + base64.b64encode(wrap(key, plaintext.view)) + b"\n"
    zero_stack()
    return lines + _checksum(lines) + b"\n"


def _parse(path: Path) -> tuple[Header, bytes, bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeysError("KEY-FILE-MISSING", f"cannot read {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        check_private(path, os.fstat(descriptor))
        raw = file.read(_SIZE_LIMIT + 1)
    lines = raw.split(b"\n")
    if len(raw) > _SIZE_LIMIT or len(lines) != _LINES + 1 or lines[3]:
        raise _damaged(path)
    if not equal(lines[2], _checksum(lines[0] + b"\n" + lines[1] + b"\n")):
        raise _damaged(path)
    try:
        header = canonical.decode(lines[0], Header, limit=_SIZE_LIMIT, what="key file")
        wrapped = base64.b64decode(lines[1], validate=True)
    except (KeysError, binascii.Error) as error:
        raise _damaged(path) from error
    if len(wrapped) != WRAP_OVERHEAD + DIGEST_SIZE + PRIVATE_SIZE:
        raise _damaged(path)
    return header, lines[0], wrapped


def _stretch(passphrase: LockedBuffer, salt: bytes, cost: Cost) -> LockedBuffer:
    key = LockedBuffer(KEY_SIZE)
    done = sodium.argon2id(
        key.address, KEY_SIZE, passphrase.address, passphrase.size, salt, cost.passes, cost.memory, _ALGORITHM
    )
    if done != 0:
        message = f"Argon2id needs {cost.memory // _MEBIBYTE} MiB of memory and did not get it"
        raise KeysError("MEMORY-STRETCH", message, "free some memory and try again")
    return key


def _checksum(lines: bytes) -> bytes:
    return hashlib.blake2b(lines, digest_size=DIGEST_SIZE).hexdigest().encode("ascii")


def _damaged(path: Path) -> KeysError:
    remedy = "the passphrase is not to blame: restore the file from a copy"
    return KeysError("KEY-FILE-DAMAGED", f"{path} is damaged or was altered", remedy)
