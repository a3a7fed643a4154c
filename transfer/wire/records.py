"""The records of a return: all that ever goes back about an order, and nothing else.

Why here: a closed schema is what keeps names, texts and foreign numbers from crossing back (FORMAT.md, section 11).
Must not: gain a free text field.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from keys.public import announcement, canonical
from keys.public.roll import Count, Hex16, Hex32, Number

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


class Revocation(announcement.KeyRevocation, frozen=True, kw_only=True, tag_field="kind", tag="revocation"):
    """Never seal to this key again."""


class Handover(announcement.Handover, frozen=True, kw_only=True, tag_field="kind", tag="handover"):
    """From ``from`` on, the new offline identity signs; both sign this."""


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


def revocation_record(revocation: announcement.Revocation) -> Revocation:
    """What a return says of a revocation that the keystore announces."""
    return Revocation(
        key=revocation.key,
        role=revocation.role,
        epoch=revocation.epoch,
        revoked_at=revocation.revoked_at,
        signature=revocation.signature,
    )


def handover_record(handover: announcement.Handover) -> Handover:
    """What a return says of a handover that the keystore announces."""
    return Handover(
        epoch=handover.epoch,
        start=handover.start,
        old_identity=handover.old_identity,
        new_identity=handover.new_identity,
        old_signature=handover.old_signature,
        new_signature=handover.new_signature,
    )
