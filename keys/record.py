"""The signed record of an act with keys: who did what, when, with which software, and what came of it.

Why here: a ceremony, a recovery and every later act leave the same kind of evidence, checked by one function.
Must not: hold a share, a passphrase or a private key, nor be written over.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from keys.ceremony_file import Person, Text
from keys.durable import create_durable
from keys.errors import KeysError
from keys.public import canonical
from keys.public.fingerprint import fingerprint, matches, words
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import Count, Hex16, Hex32, Node, Number
from keys.ring_index import RingBackend
from keys.software import Software, file_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECORD_COMMENT: Final = "sealed-orders v1 ceremony-record"
RECORD_NAME: Final = "record.json"
SIGNATURE_NAME: Final = "record.json.minisig"
IDENTITY_NAME: Final = "identity.pub"
_SIZE_LIMIT: Final = 4 * 1024 * 1024
_SIGNATURE_LIMIT: Final = 1024
_PUBLIC_MODE: Final = 0o644


class Act(StrEnum):
    """What was done."""

    CEREMONY = "ceremony"
    RECOVERY = "recovery"
    RESHARE = "reshare"
    CHECK_SHARES = "check-shares"
    ROTATION = "rotation"
    REVOCATION = "revocation"


class NamedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public key with both forms of its fingerprint, so that the record can be read beside the paper."""

    public_key: Hex32
    fingerprint: str
    words: str

    @classmethod
    def of(cls, public_key: bytes) -> NamedKey:
        return cls(public_key=public_key.hex(), fingerprint=fingerprint(public_key), words=words(public_key))


class RecordedOrderKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order key and its cryptoperiod (Unix seconds)."""

    number: Number
    key_id: Hex16
    seal_until: Count
    destroy_at: Count


class RecordedCustody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The custody key and its share set. ``custodians`` is empty where only their number is known."""

    key: NamedKey
    set_id: Count
    threshold: Number
    shares: Number
    custodians: tuple[Text, ...] = ()


class RecordedNode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An enrolled node."""

    node: Node
    key: NamedKey
    roll_number: Count


class RecordedStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step as it was shown, with its times."""

    heading: str
    began: Count
    ended: Count


class RecordedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file beside the record; ``digest`` as `b2sum -l 256` prints it."""

    name: Annotated[
        str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)?$(?!\n)")
    ]
    digest: Hex32


class LostKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Batch keys of one node that are gone for good, and with them the cards of the bundles cut under them."""

    node: Node
    numbers: tuple[Number, ...]


class Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="ceremony-record",
):
    """Everything that is known of one act. Times are Unix seconds, digests BLAKE2b-256."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    act: Act
    title: str
    place: str | None = None
    rehearsal: bool
    people: tuple[Person, ...] = ()
    identity: NamedKey
    order_keys: tuple[RecordedOrderKey, ...]
    custody: RecordedCustody | None
    epoch: Number
    ring_secret: RingBackend
    passphrases: Annotated[int, msgspec.Meta(ge=1, le=2)]
    nodes: tuple[RecordedNode, ...] = ()
    lost: tuple[LostKeys, ...] = ()
    software: Software
    input_digest: Hex32 | None = None
    files: tuple[RecordedFile, ...] = ()
    steps: tuple[RecordedStep, ...] = ()
    made_at: Count


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
        create_durable(directory / RECORD_NAME, raw, _PUBLIC_MODE)
        signature = sign_file(raw, RECORD_COMMENT)
        create_durable(directory / SIGNATURE_NAME, signature.encode("utf-8"), _PUBLIC_MODE)
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
            raise _malformed(f"the fingerprint of key {named.public_key} is not that key's")
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
    raw = _read(directory / RECORD_NAME, _SIZE_LIMIT)
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


def decode_record(raw: bytes) -> Record:
    """Parse a record that is in canonical form. Names may have any letters. ``RECORD-FORM``."""
    try:
        record = msgspec.json.decode(raw, type=Record, strict=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed("it does not have the form of a record") from error
    if len(raw) > _SIZE_LIMIT or canonical.encode(record) != raw:
        raise _malformed("it is not in canonical form")
    return record


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
        raise _malformed(f"{path} is larger than {limit} bytes")
    return raw


def _wrong_identity(reason: str) -> KeysError:
    remedy = (
        "compare the fingerprint on paper with the one beside the record; one of them is of another identity"
    )
    return KeysError("RECORD-IDENTITY", reason, remedy)


def _malformed(reason: str) -> KeysError:
    return KeysError("RECORD-FORM", f"this is no ceremony record: {reason}", "look for another copy")


def _other_file(reason: str) -> KeysError:
    remedy = "the record itself is good; look for another copy of the file"
    return KeysError("RECORD-FILE", reason, remedy)
