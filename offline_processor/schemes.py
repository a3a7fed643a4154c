"""Card schemes: which one a number belongs to, and how long an authorisation of theirs may wait for its capture.

Why here: expiry, totals and reports speak of the same schemes.
Must not: see more of a number than its first six digits.

Days are for card-not-present, final authorisations, and on the safe side: Visa Core Rules 5.7.4 (7 days; 10 for
some since 2024), Mastercard Transaction Processing Rules 2.2 (7 days for a final authorisation), American Express
Merchant Regulations (7 days), Discover and JCB (7 days), UnionPay (7 days). An acquirer may ask for less.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Scheme(StrEnum):
    """Whose card it is."""

    VISA = "visa"
    MASTERCARD = "mastercard"
    AMEX = "amex"
    DISCOVER = "discover"
    DINERS = "diners"
    JCB = "jcb"
    UNIONPAY = "unionpay"
    MAESTRO = "maestro"
    OTHER = "other"


AUTHORISATION_DAYS: Final[dict[Scheme, int]] = dict.fromkeys(Scheme, 7)

# (first, last) of the six digits, ISO/IEC 7812-1; the narrower range stands first.
_RANGES: Final = (
    (340_000, 349_999, Scheme.AMEX),
    (370_000, 379_999, Scheme.AMEX),
    (352_800, 358_999, Scheme.JCB),
    (300_000, 305_999, Scheme.DINERS),
    (360_000, 369_999, Scheme.DINERS),
    (380_000, 399_999, Scheme.DINERS),
    (400_000, 499_999, Scheme.VISA),
    (222_100, 272_099, Scheme.MASTERCARD),
    (510_000, 559_999, Scheme.MASTERCARD),
    (601_100, 601_199, Scheme.DISCOVER),
    (644_000, 659_999, Scheme.DISCOVER),
    (620_000, 629_999, Scheme.UNIONPAY),
    (810_000, 819_999, Scheme.UNIONPAY),
    (500_000, 509_999, Scheme.MAESTRO),
    (560_000, 589_999, Scheme.MAESTRO),
    (600_000, 699_999, Scheme.MAESTRO),
)


def scheme_of(card: str) -> Scheme:
    """The scheme of a card as the ledger keeps it: six digits, and whatever follows them."""
    digits = card[:6]
    if len(digits) != 6 or not digits.isdecimal():  # noqa: PLR2004  ISO/IEC 7812-1 in its first edition
        return Scheme.OTHER
    number = int(digits)
    return next((scheme for first, last, scheme in _RANGES if first <= number <= last), Scheme.OTHER)
