"""The form of a record: what is known of one act with keys, as data.

Why here: whoever writes, checks or shows a record shares these types; how it is signed is keys/record.py's.
Must not: hold a share, a passphrase or a private key.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from keys.ceremony_file import Person, Text
from keys.errors import KeysError
from keys.public import canonical
from keys.public.fingerprint import fingerprint, words
from keys.public.roll import Count, Hex16, Hex32, Node, Number
from keys.ring_index import RingBackend
from keys.software import Software

SIZE_LIMIT: Final = 4 * 1024 * 1024


class Act(StrEnum):
    """What was done."""

    CEREMONY = "ceremony"
    RECOVERY = "recovery"
    RESHARE = "reshare"
    CHECK_SHARES = "check-shares"
    ENROLMENT = "enrolment"
    ROTATION = "rotation"
    REVOCATION = "revocation"
    CUSTODY_COPY = "custody-copy"
    DISCARD = "discard"


class Subject(StrEnum):
    """What kind of key an act was about."""

    IDENTITY = "offline-identity"
    ORDER_KEY = "order-key"
    NODE = "node-identity"
    BATCH_KEY = "batch-key"
    HOLD_KEY = "hold-key"


class Change(StrEnum):
    """What became of it."""

    MADE = "made"
    ENROLLED = "enrolled"
    REPLACED = "replaced"
    COMPROMISED = "compromised"  # replaced, and never to be believed again
    REVOKED = "revoked"
    DESTROYED = "destroyed"


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


class ChangedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that the act changed: ``key`` is an identity's fingerprint in hex, or another key's id."""

    subject: Subject
    change: Change
    key: Text
    node: Node | None = None
    number: Number | None = None

    def line(self) -> str:
        """As a person reads it."""
        number = "" if self.number is None else f" {self.number}"
        of_node = "" if self.node is None else f" of {self.node}"
        return f"{self.change}: {self.subject}{number}{of_node} ({self.key})"


class RecordedCopy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A custody copy that there was when the act ended; ``digest`` as `b2sum -l 256` prints it."""

    name: Text
    digest: Hex32


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
    changed: tuple[ChangedKey, ...] = ()
    custody_copies: tuple[RecordedCopy, ...] = ()
    files: tuple[RecordedFile, ...] = ()
    steps: tuple[RecordedStep, ...] = ()
    made_at: Count


def decode_record(raw: bytes) -> Record:
    """Parse a record that is in canonical form. Names may have any letters. ``RECORD-FORM``."""
    try:
        record = msgspec.json.decode(raw, type=Record, strict=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed("it does not have the form of a record") from error
    if len(raw) > SIZE_LIMIT or canonical.encode(record) != raw:
        raise malformed("it is not in canonical form")
    return record


def malformed(reason: str) -> KeysError:
    """The refusal of what is no record."""
    return KeysError("RECORD-FORM", f"this is no ceremony record: {reason}", "look for another copy")
