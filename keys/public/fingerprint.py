"""Fingerprints: how two people compare a public key over the telephone.

Why here: node enrolment, trust in the offline identity and every status screen show the same form.
Must not: be shortened; 128 bits are what makes it safe to compare.
"""

from __future__ import annotations

from functools import cache

from mnemonic import Mnemonic

from keys.public.digest import digest, equal

_GROUP = 4
_SIZE = 16
_SEPARATORS = " -:,.\t\r\n"


def fingerprint(public_key: bytes) -> str:
    """32 hex digits in groups of four joined by '-' (FORMAT.md, section 2)."""
    digits = _short(public_key).hex()
    return "-".join(digits[start : start + _GROUP] for start in range(0, len(digits), _GROUP))


def words(public_key: bytes) -> str:
    """The same 128 bits as twelve English words (BIP-39, whose last word also checks the others)."""
    return _english().to_mnemonic(_short(public_key))


def matches(public_key: bytes, spoken: str) -> bool:
    """True when ``spoken`` is this key's fingerprint in hex or in words, whatever its case, spaces and dashes."""
    for separator in _SEPARATORS:
        spoken = spoken.replace(separator, " ")
    parts = spoken.lower().split()
    ours = (_short(public_key).hex(), words(public_key).replace(" ", ""))
    said = "".join(parts).encode("ascii", "replace")
    # Words run together count too: whoever says these letters in this order says this key's words.
    return any(equal(form.encode("ascii"), said) for form in ours)


def _short(public_key: bytes) -> bytes:
    return digest("fingerprint", public_key, size=_SIZE)


@cache
def _english() -> Mnemonic:
    return Mnemonic("english")
