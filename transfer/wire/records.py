"""The records of a return: all that ever goes back about an order, and nothing else.

Why here: a closed schema is what keeps names, texts and foreign numbers from crossing back (FORMAT.md, section 11).
Must not: gain a free text field.
"""

from __future__ import annotations

import struct
from enum import StrEnum

import msgspec

from keys.public import canonical
from keys.public.digest import digest
from keys.public.roll import Count, Hex16, Hex32, Hex64, Number, Role

RECORD_LIMIT = 1024


class StatusState(StrEnum):
    """What the shop may know of an order's state."""

    HELD = "held"
    AUTHORISED = "authorised"
    PAID = "paid"
    DECLINED = "declined"
    ORDER_AGAIN = "order-again"
    DISPATCHED = "dispatched"
    REFUNDED = "refunded"


class Reason(StrEnum):
    """What a customer may be told of why."""

    NONE = "none"
    UNDER_REVIEW = "under-review"
    CARD_DECLINED = "card-declined"
    CARD_EXPIRED = "card-expired"
    NEW_CARD = "new-card"
    TRY_LATER = "try-later"
    CALL_BANK = "call-bank"
    NOT_READABLE = "not-readable"
    EXPIRED = "expired"


class Outcome(StrEnum):
    """What became of a bundle."""

    PROCESSED = "processed"
    EXPIRED = "expired"
    EMPTY = "empty"


class RefusalRule(StrEnum):
    """The rules by which a bundle is refused and which are reported back."""

    FORMAT = "BUNDLE-FORMAT"
    FORK = "BUNDLE-FORK"
    SEQUENCE = "BUNDLE-SEQUENCE"
    SIGNATURE = "BUNDLE-SIGNATURE"
    DAMAGED = "BUNDLE-DAMAGED"
    KEY = "BUNDLE-KEY"
    LEDGER_BEHIND = "BUNDLE-LEDGER-BEHIND"
    RETURN = "BUNDLE-RETURN"


class SubjectState(StrEnum):
    """What became of a subject request."""

    DONE = "done"
    REFUSED = "refused"


class Receipt(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="receipt"
):
    """Every order of the bundle has a durable outcome or hold."""

    sequence: Number
    manifest: Hex32
    orders: Count
    outcome: Outcome
    settled_at: Count


class StatusRecord(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="status"
):
    """The coarse state of one order."""

    order: Hex16
    state: StatusState
    reason: Reason
    changed_at: Count


class Refusal(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="refusal"
):
    """A bundle was refused; ``expected`` is the sequence that the offline side waits for."""

    rule: RefusalRule
    expected: Number
    seen_at: Count


class Revocation(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="revocation"
):
    """Never seal to this key again."""

    key: Hex16
    role: Role
    epoch: Number
    revoked_at: Count
    signature: Hex64


class Handover(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="handover"
):
    """From ``from`` on, the new offline identity signs; both sign this."""

    epoch: Number
    start: Count = msgspec.field(name="from")
    old_identity: Hex32
    new_identity: Hex32
    old_signature: Hex64
    new_signature: Hex64


class SubjectAnswer(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="subject"
):
    """The answer to a subject request."""

    request: Hex16
    state: SubjectState
    changed_at: Count


Record = Receipt | StatusRecord | Refusal | Revocation | Handover | SubjectAnswer


def encode_record(record: Record) -> bytes:
    """One canonical line, with its line feed."""
    return canonical.encode(record) + b"\n"


def decode_record(line: bytes) -> Record:
    """``FORMAT-JSON`` unless ``line`` (without its line feed) is one record in canonical form."""
    record: Record = canonical.decode(line, Record, limit=RECORD_LIMIT, what="record")  # type: ignore[arg-type]
    return record


def revocation_message(*, role: Role, epoch: int, key: bytes, revoked_at: int) -> bytes:
    """What the offline identity signs to revoke a key (``key`` is its 16-byte id)."""
    packed = struct.pack(">BI16sQ", 1 if role is Role.ORDER else 2, epoch, key, revoked_at)
    return b"sealed-orders/v1/revocation\0" + digest("revocation", packed)


def handover_message(*, epoch: int, start: int, old_identity: bytes, new_identity: bytes) -> bytes:
    """What the old and the new offline identity both sign."""
    packed = struct.pack(">IQ32s32s", epoch, start, old_identity, new_identity)
    return b"sealed-orders/v1/handover\0" + digest("handover", packed)
