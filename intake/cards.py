"""Card data as a customer types it: digits, brand, length, check digit, expiry and security code.

Why here: both the JSON API and the pages judge a card by these rules, before it is sealed.
Must not: keep, print or put into any text a digit that it was given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from intake import words

PAN_MINIMUM, PAN_MAXIMUM = 12, 19
CVV_LENGTH = 3
AMEX_CVV_LENGTH = 4
YEARS_AHEAD = 25
_SPACING = str.maketrans("", "", " -\u00a0\u2009\u202f\u2010\u2011")
_TYPED_LIMIT = 64
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_LUHN_SINGLE = bytes.maketrans(b"0123456789", bytes(range(10)))
_LUHN_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """A card scheme's numbers: the beginnings (low, high; same width) and the lengths it issues."""

    name: str
    beginnings: tuple[tuple[str, str], ...]
    lengths: frozenset[int]
    cvv_lengths: frozenset[int] = frozenset({CVV_LENGTH})
    check_digit: bool = True


def _one(*beginnings: str) -> tuple[tuple[str, str], ...]:
    return tuple((beginning, beginning) for beginning in beginnings)


BRANDS = (
    Brand(
        name="American Express",
        beginnings=_one("34", "37"),
        lengths=frozenset({15}),
        cvv_lengths=frozenset({AMEX_CVV_LENGTH}),
    ),
    Brand(name="Visa", beginnings=_one("4"), lengths=frozenset({13, 16, 19})),
    Brand(name="Mastercard", beginnings=(("51", "55"), ("2221", "2720")), lengths=frozenset({16})),
    Brand(
        name="Discover", beginnings=(*_one("6011", "65"), ("644", "649")), lengths=frozenset({16, 17, 18, 19})
    ),
    Brand(
        name="Diners Club",
        beginnings=(("300", "305"), *_one("3095", "36", "38", "39")),
        lengths=frozenset({14, 15, 16, 17, 18, 19}),
    ),
    Brand(name="JCB", beginnings=(("3528", "3589"),), lengths=frozenset({16, 17, 18, 19})),
    # UnionPay has issued numbers without a check digit.
    Brand(name="UnionPay", beginnings=_one("62"), lengths=frozenset({16, 17, 18, 19}), check_digit=False),
    Brand(
        name="Maestro",
        beginnings=(*_one("50", "6304", "6390", "67"), ("56", "58")),
        lengths=frozenset(range(PAN_MINIMUM, PAN_MAXIMUM + 1)),
    ),
)
OTHER = Brand(
    name="other",
    beginnings=(),
    lengths=frozenset(range(PAN_MINIMUM, PAN_MAXIMUM + 1)),
    cvv_lengths=frozenset({CVV_LENGTH, AMEX_CVV_LENGTH}),
)
"""A scheme that we do not know: its bank may, so only the general rules hold."""


def _by_first_digit() -> dict[str, tuple[tuple[int, str, str, Brand], ...]]:
    table: dict[str, list[tuple[int, str, str, Brand]]] = {}
    for brand in BRANDS:
        for low, high in brand.beginnings:
            table.setdefault(low[0], []).append((len(low), low, high, brand))
    return {digit: tuple(ranges) for digit, ranges in table.items()}


_BY_FIRST_DIGIT = _by_first_digit()


def brand_of(digits: str) -> Brand:
    """The scheme that the first digits belong to; ``OTHER`` when it is not known."""
    for width, low, high, brand in _BY_FIRST_DIGIT.get(digits[:1], ()):
        if low <= digits[:width] <= high:
            return brand
    return OTHER


def luhn(digits: str) -> bool:
    """True when the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    number = digits.encode("ascii")
    return (
        sum(number[-1::-2].translate(_LUHN_SINGLE)) + sum(number[-2::-2].translate(_LUHN_DOUBLED))
    ) % 10 == 0


def without_spacing(typed: str) -> str | None:
    """The digits of a number typed with spaces or dashes; None when it holds anything else."""
    if len(typed) > _TYPED_LIMIT:
        return None
    digits = typed.translate(_SPACING)
    return digits if _DIGITS.fullmatch(digits) else None


def number_fault(digits: str | None, brand: Brand) -> str | None:
    """What is wrong with a card number of this brand, or None."""
    if digits is None:
        return words.CARD_DIGITS
    if len(digits) not in brand.lengths:
        return words.CARD_LENGTH
    if brand.check_digit and not luhn(digits):
        return words.CARD_CHECK
    return None


def security_code_fault(code: str, brand: Brand) -> str | None:
    """What is wrong with a security code for a card of this brand, or None."""
    wanted = brand.cvv_lengths
    if _DIGITS.fullmatch(code) and len(code) in wanted:
        return None
    if wanted == {AMEX_CVV_LENGTH}:
        return words.CODE_FRONT
    if wanted == {CVV_LENGTH}:
        return words.CODE_BACK
    return words.CODE_EITHER
