"""What the checkout's script is given to judge a form by: the same rules and words that the server has.

Why here: the card and the address are judged in the browser, since the server must not see them.
Must not: hold a rule of its own; everything comes from cards, words, forms and texts.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from intake import forms, words
from intake.cards import AMEX_CVV_LENGTH, BRANDS, OTHER, PAN_MAXIMUM, PAN_MINIMUM, YEARS_AHEAD, Brand
from intake.page.address import ANYWHERE, rules

_LABELS = {
    "name": "Full name",
    "email": "Email address",
    "country": "Country",
    "number": "Card number",
    "expiry": "Expiry date",
    "code": "Security code",
}
_FAULTS = {
    "missing": words.MISSING,
    "control": words.CONTROL,
    "email": words.EMAIL,
    "digits": words.CARD_DIGITS,
    "length": words.CARD_LENGTH,
    "check": words.CARD_CHECK,
    "expiry": words.EXPIRY_FORM,
    "expired": words.EXPIRED,
    "far": words.TOO_FAR,
    "front": words.CODE_FRONT,
    "back": words.CODE_BACK,
    "either": words.CODE_EITHER,
    "postcode": words.POSTCODE,
    "size": words.TOO_LONG_TOGETHER,
}
_LIMITS = {
    "name": forms.TEXT_MAXIMUM,
    "email": forms.EMAIL_MAXIMUM,
    "line1": forms.TEXT_MAXIMUM,
    "line2": forms.TEXT_MAXIMUM,
    "district": forms.TEXT_MAXIMUM,
    "city": forms.CITY_MAXIMUM,
    "region": forms.CITY_MAXIMUM,
    "postcode": forms.POSTCODE_MAXIMUM,
}


@cache
def rules_document(*, year: int, month: int) -> str:
    """The JSON in the checkout page. ``year`` and ``month`` are of now: a browser's clock is not trusted."""
    document: dict[str, Any] = {
        "year": year,
        "month": month,
        "years_ahead": YEARS_AHEAD,
        "brands": [_brand(brand) for brand in BRANDS],
        "other": _brand(OTHER),
        "pan": [PAN_MINIMUM, PAN_MAXIMUM],
        "labels": _LABELS,
        "faults": _FAULTS | {"long": {name: words.at_most(limit) for name, limit in _LIMITS.items()}},
        "limits": _LIMITS,
        "anywhere": ANYWHERE,
    }
    return msgspec.json.encode(document).decode()


def country_document(country: str) -> bytes | None:
    """One country's address rules as the script fetches them; None for no country."""
    found = rules().get(country)
    return None if found is None else msgspec.json.encode(found)


def _brand(brand: Brand) -> dict[str, Any]:
    return {
        "name": brand.name,
        "beginnings": brand.beginnings,
        "lengths": sorted(brand.lengths),
        "codes": sorted(brand.cvv_lengths),
        "check": brand.check_digit,
        "groups": [4, 6, 5] if brand.cvv_lengths == {AMEX_CVV_LENGTH} else [4, 4, 4, 4, 3],
    }
