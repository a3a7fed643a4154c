"""The signed record of an act with keys: who did what, when, with which software, and what came of it.

Why here: a ceremony, a recovery and every later act leave the same kind of evidence, checked by one function.
Must not: hold a share, a passphrase or a private key, nor be written over.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from keys.ceremony import IDENTITY_NAME
from keys.durable import create_durable
from keys.errors import KeysError
from keys.public import canonical
from keys.public.fingerprint import matches
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.record_form import SIZE_LIMIT, NamedKey, Record, RecordedFile, decode_record, malformed
from keys.software import Software, file_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECORD_COMMENT: Final = "sealed-orders v1 ceremony-record"
RECORD_NAME: Final = "record.json"
SIGNATURE_NAME: Final = "record.json.minisig"
_SIGNATURE_LIMIT: Final = 1024
PUBLIC_MODE: Final = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A record whose signature, fields and files are good. ``same_version`` is False for other software."""

    record: Record
    same_version: bool


def record_files(directory: Path, names: list[str]) -> tuple[RecordedFile, ...]:
    """What a record says of the files beside it; ``names`` are relative to ``directory``."""
    return tuple(RecordedFile(name=name, digest=file_digest(directory / name)) for name in sorted(names))


def write_record(directory: Path, record: Record, sign_file: Callable[[bytes, str], str]) -> None:
    """Write the record and, last, its signature; ``sign_file(content, comment)`` gives a minisign text.

    Raises ``CEREMONY-EXISTS`` where there is a record already.
    """
    raw = canonical.encode(record)
    try:
        create_durable(directory / RECORD_NAME, raw, PUBLIC_MODE)
        signature = sign_file(raw, RECORD_COMMENT)
        create_durable(directory / SIGNATURE_NAME, signature.encode("utf-8"), PUBLIC_MODE)
    except FileExistsError as error:
        raise KeysError(
            "CEREMONY-EXISTS", f"{directory} holds a record already", "choose an empty directory"
        ) from error


def verify_record(directory: Path, *, spoken: str | None, software: Software) -> Verified:
    """Check a record against its identity, the files beside it and the software that is installed now.

    ``spoken`` is the fingerprint of the offline identity from paper; without it the identity beside the record
    is believed. Raises ``RECORD-MISSING``, ``RECORD-IDENTITY``, ``RECORD-SIGNATURE``, ``RECORD-FORM``,
    ``RECORD-FILE`` or ``RECORD-SOFTWARE`` (the same version with other source files).
    """
    record = _authentic(directory, spoken)
    for named in _named_keys(record):
        if named != NamedKey.of(bytes.fromhex(named.public_key)):
            raise malformed(f"the fingerprint of key {named.public_key} is not that key's")
    _check_files(directory, record)
    same_version = record.software.version == software.version
    if same_version and record.software.digest != software.digest:
        raise KeysError(
            "RECORD-SOFTWARE",
            f"the record is good, and was made with other source files of version {software.version} than are "
            "installed here",
            "find out which of the two was altered: compare `key-ceremony software` with a fresh installation",
        )
    return Verified(record=record, same_version=same_version)


def _authentic(directory: Path, spoken: str | None) -> Record:
    raw = _read(directory / RECORD_NAME, SIZE_LIMIT)
    text = _read(directory / SIGNATURE_NAME, _SIGNATURE_LIMIT)
    try:
        identity = MinisignPublicKey.decode(
            _read(directory / IDENTITY_NAME, _SIGNATURE_LIMIT).decode("ascii")
        )
    except (KeysError, UnicodeDecodeError) as error:
        raise _wrong_identity(f"{directory / IDENTITY_NAME} is not a public key") from error
    if spoken is not None and not matches(identity.public_key, spoken):
        raise _wrong_identity("the identity beside the record does not have the fingerprint that was given")
    if not signature_matches(identity, raw, text.decode("utf-8", "replace"), RECORD_COMMENT):
        if _claimed_identity(raw) not in {None, identity.public_key.hex()}:
            raise _wrong_identity("the record names another identity than the one beside it")
        raise KeysError(
            "RECORD-SIGNATURE",
            "the record or its signature was altered after it was signed",
            "trust nothing in it; look for another copy, and compare with the paper",
        )
    record = decode_record(raw)
    if record.identity.public_key != identity.public_key.hex():
        raise _wrong_identity("the record names another identity than the one that signed it")
    return record


def _check_files(directory: Path, record: Record) -> None:
    for file in record.files:
        try:
            found = file_digest(directory / file.name)
        except OSError as error:
            raise _other_file(f"{file.name} is missing: {error.strerror}") from error
        if found != file.digest:
            raise _other_file(f"{file.name} is not the file that was recorded")


def digest_of(raw: bytes) -> str:
    """BLAKE2b-256 of bytes in hand, as `b2sum -l 256` prints it for a file."""
    return hashlib.blake2b(raw, digest_size=32).hexdigest()


def _named_keys(record: Record) -> list[NamedKey]:
    keys = [record.identity, *(node.key for node in record.nodes)]
    return keys if record.custody is None else [*keys, record.custody.key]


def _claimed_identity(raw: bytes) -> str | None:
    try:
        return decode_record(raw).identity.public_key
    except KeysError:
        return None


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise KeysError("RECORD-MISSING", f"cannot read {path}: {error.strerror}") from error
    if len(raw) > limit:
        raise malformed(f"{path} is larger than {limit} bytes")
    return raw


def _wrong_identity(reason: str) -> KeysError:
    remedy = (
        "compare the fingerprint on paper with the one beside the record; one of them is of another identity"
    )
    return KeysError("RECORD-IDENTITY", reason, remedy)


def _other_file(reason: str) -> KeysError:
    remedy = "the record itself is good; look for another copy of the file"
    return KeysError("RECORD-FILE", reason, remedy)
