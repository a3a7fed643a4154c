"""Card schemes: which one a number belongs to, and how long an authorisation of theirs may wait for its capture.

Why here: expiry, totals and reports speak of the same schemes.
Must not: see more of a number than its first six digits.

Their days are from the approval until the charge is cleared, of an order by mail or Internet whose amount is final:

- Visa: 10 when the customer initiates the charge, 5 when the merchant does (Visa Core Rules as changed on
  13 April 2024; read in acquirers' notices of the change). Acquirers let their merchants have 7 to 10, and 3 to 5.
- Mastercard, Maestro: 7 for a final authorisation. The 30 of a pre-authorisation are for one that is coded so, which
  ours are not; Maestro has 7 in any case (Europe region bulletin on payment guarantees of 2013, and acquirers'
  pages).
- American Express: 7, as acquirers state; its own older Merchant Regulations said 30.
- Discover, Diners Club, JCB, UnionPay: their rules are not public; acquirers state 5 to 30, most of them 7.
"""

from __future__ import annotations

from collections.abc import Mapping
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


CLEARING_DAYS: Final = 1
"""Of a scheme's days, what is left to the acquirer between our capture and its clearing."""

SCHEME_DAYS: Final[dict[Scheme, tuple[int, int]]] = {
    Scheme.VISA: (10, 5),
    Scheme.MASTERCARD: (7, 7),
    Scheme.MAESTRO: (7, 7),
    Scheme.AMEX: (7, 7),
    Scheme.DISCOVER: (7, 7),
    Scheme.DINERS: (7, 7),
    Scheme.JCB: (7, 7),
    Scheme.UNIONPAY: (7, 7),
}
"""From approval to clearing: when the customer initiates the charge, and when the merchant does."""

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


def authorisation_days(card: str, *, again: bool, agreed: Mapping[Scheme, int]) -> int:
    """For how many days an authorisation of this card may be taken.

    ``again``: it is not its order's first, so that it may have gone without the customer's security code, and counts
    as the merchant's. ``agreed``: the days that the acquirer itself has stated; they stand above the scheme's.
    A card of no known scheme, as after a restore, may be of any: it has the shortest time of all.
    """
    scheme = scheme_of(card)
    if scheme in agreed or scheme in SCHEME_DAYS:
        return _days(scheme, again, agreed)
    return min(_days(each, True, agreed) for each in SCHEME_DAYS)


def _days(scheme: Scheme, again: bool, agreed: Mapping[Scheme, int]) -> int:  # noqa: FBT001  an index of the table
    return agreed[scheme] if scheme in agreed else SCHEME_DAYS[scheme][again] - CLEARING_DAYS
