"""The card compartment's layout: written online into a buffer, read offline only as views of locked memory.

Why here: one place for every offset of FORMAT.md, section 7.
Must not: return PAN or CVV as str or bytes to the offline side; it gets memoryviews of what it passed in.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from transfer.errors import TransferError

CARD_SIZE = 128
_BINDING = struct.Struct(">32s32sQ3sB")
_EXPIRY = struct.Struct(">BH")
PAN_LENGTH = 75
PAN = 76
PAN_FIELD = 19
EXPIRY = 95
CVV_LENGTH = 98
CVV = 99
CVV_FIELD = 4
PADDING = 103
PAN_MINIMUM = 12
_DIGITS = frozenset(b"0123456789")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card as the customer gave it, online only, on its way into a box. Digits are ASCII bytes."""

    pan: bytes = field(repr=False)
    cvv: bytes = field(repr=False)
    expiry_month: int = field(repr=False)
    expiry_year: int = field(repr=False)


def encode_card(
    card: Card, *, header_digest: bytes, order_box_digest: bytes, amount: int, currency: str
) -> bytearray:
    """The 128-byte plaintext; the caller wipes it after sealing. ``CARD-FORM`` when a number cannot fit."""
    if not (PAN_MINIMUM <= len(card.pan) <= PAN_FIELD and len(card.cvv) in (3, CVV_FIELD)):
        raise TransferError("CARD-FORM", "a card number or security code has an impossible length")
    plaintext = bytearray(CARD_SIZE)
    _BINDING.pack_into(
        plaintext, 0, header_digest, order_box_digest, amount, currency.encode("ascii"), len(card.pan)
    )
    plaintext[PAN : PAN + len(card.pan)] = card.pan
    _EXPIRY.pack_into(plaintext, EXPIRY, card.expiry_month, card.expiry_year)
    plaintext[CVV_LENGTH] = len(card.cvv)
    plaintext[CVV : CVV + len(card.cvv)] = card.cvv
    return plaintext


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """A checked card compartment. ``pan`` and ``cvv`` are views of the locked memory it was opened into."""

    header_digest: bytes
    order_box_digest: bytes
    amount: int
    currency: str
    pan: memoryview = field(repr=False)
    cvv: memoryview = field(repr=False)
    expiry_month: int = field(repr=False)
    expiry_year: int = field(repr=False)

    @property
    def bin(self) -> str:
        """The issuer's six digits, which may be kept and shown."""
        return str(self.pan[:6], "ascii")

    @property
    def last_four(self) -> str:
        """The last four digits, which may be kept and shown."""
        return str(self.pan[-4:], "ascii")


def decode_card(plaintext: memoryview) -> CardView:
    """Read an opened card compartment in place; ``CARD-FORM`` when a field is not as FORMAT.md says."""
    if len(plaintext) != CARD_SIZE:
        raise TransferError("CARD-FORM", "the card compartment has an impossible size")
    header_digest, order_box_digest, amount, currency, pan_size = _BINDING.unpack_from(plaintext)
    month, year = _EXPIRY.unpack_from(plaintext, EXPIRY)
    cvv_size = plaintext[CVV_LENGTH]
    if not (
        PAN_MINIMUM <= pan_size <= PAN_FIELD
        and cvv_size in (3, 4)
        and 1 <= month <= 12  # noqa: PLR2004  months
        and 1000 <= year <= 9999  # noqa: PLR2004  four digits
        and currency.isalpha()
        and currency.isascii()
        and currency.isupper()
    ):
        raise TransferError("CARD-FORM", "a field of the card compartment is not as FORMAT.md says")
    pan = plaintext[PAN : PAN + pan_size]
    cvv = plaintext[CVV : CVV + cvv_size]
    zeros = (plaintext[PAN + pan_size : EXPIRY], plaintext[CVV + cvv_size :])
    if not (_DIGITS.issuperset(pan) and _DIGITS.issuperset(cvv)) or any(map(any, zeros)):
        raise TransferError("CARD-FORM", "a field of the card compartment is not as FORMAT.md says")
    return CardView(
        header_digest=header_digest,
        order_box_digest=order_box_digest,
        amount=amount,
        currency=currency.decode("ascii"),
        pan=pan,
        cvv=cvv,
        expiry_month=month,
        expiry_year=year,
    )


def stored_card(plaintext: memoryview) -> CardView:
    """The view of a compartment of which only PAN and expiry were kept: no CVV, no bindings, no amount."""
    month, year = _EXPIRY.unpack_from(plaintext, EXPIRY)
    return CardView(
        header_digest=b"",
        order_box_digest=b"",
        amount=0,
        currency="",
        pan=plaintext[PAN : PAN + plaintext[PAN_LENGTH]],
        cvv=plaintext[CVV:CVV],
        expiry_month=month,
        expiry_year=year,
    )
