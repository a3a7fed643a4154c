"""Fingerprints: how two people compare a public key over the telephone.

Why here: node enrolment, trust in the offline identity and every status screen show the same form.
Must not: be shortened; 128 bits are what makes it safe to compare.
"""

from __future__ import annotations

from keys.public.digest import digest, equal

_GROUP = 4


def fingerprint(public_key: bytes) -> str:
    """32 hex digits in groups of four joined by '-' (FORMAT.md, section 2)."""
    digits = digest("fingerprint", public_key, size=16).hex()
    return "-".join(digits[start : start + _GROUP] for start in range(0, len(digits), _GROUP))


def matches(public_key: bytes, spoken: str) -> bool:
    """True when ``spoken`` is this key's fingerprint, whatever its case, spaces and dashes."""
    digits = "".join(character for character in spoken.lower() if character not in " -:\t")
    return equal(fingerprint(public_key).replace("-", "").encode(), digits.encode("ascii", "replace"))
