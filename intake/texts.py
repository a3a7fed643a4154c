"""Names, addresses, email and country as people of the whole world write them.

Why here: what is sealed must already be what the offline side accepts (FORMAT.md, section 6).
Must not: refuse a script, a short name or a long one; only what can harm a reader of the text.
"""

from __future__ import annotations

import re
import unicodedata

import email_validator
import iso3166

from intake.forms import EMAIL_MAXIMUM

# Controls, surrogates, line and paragraph separators: no name has them, and a label printer or a CSV may act on them.
# Embeddings, overrides and isolates can make an address read differently from what it is.
_HARMFUL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# A plain address that email-validator accepts unchanged: saves its 40 microseconds for nearly all orders.
_PLAIN_EMAIL = re.compile(
    r"[A-Za-z0-9_+-]{1,24}(?:\.[A-Za-z0-9_+-]{1,16}){0,2}"
    r"@(?:[a-z0-9]{1,22}\.){1,3}[a-z]{2,3}",
    re.ASCII,
)
COUNTRIES = frozenset(iso3166.countries_by_alpha2)


def clean(value: str) -> str:
    """Normal form C, without spaces around."""
    if value.isascii():
        return value.strip(" ")
    return unicodedata.normalize("NFC", value).strip(" ")


def is_harmful(value: str) -> bool:
    """True when ``value`` holds a control character or one that turns the writing direction."""
    return _HARMFUL.search(value) is not None


def email_address(value: str) -> str | None:
    """The address in normal form, or None when it is not one. No DNS is asked."""
    if _PLAIN_EMAIL.fullmatch(value):
        return value
    if len(value) > EMAIL_MAXIMUM:
        return None
    try:
        address = email_validator.validate_email(value, check_deliverability=False).normalized
    except email_validator.EmailNotValidError:
        return None
    return address if len(address) <= EMAIL_MAXIMUM and not is_harmful(address) else None
