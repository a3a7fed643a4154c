"""Fingerprints: how two people compare a public key over the telephone.

Why here: node enrolment, trust in the offline identity and every status screen show the same form.
Must not: be shortened; 128 bits are what makes it safe to compare.
"""

from __future__ import annotations

from functools import cache
from string import hexdigits

from mnemonic import Mnemonic

from keys.public.digest import digest, equal

_GROUP = 4
_SIZE = 16
_WORDS = 12
_SHORTEST_WORD = 3
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
    ours = (_short(public_key).hex(), words(public_key).replace(" ", ""))
    said = _joined(spoken).encode("ascii", "replace")
    # Words run together count too: whoever says these letters in this order says this key's words.
    return any(equal(form.encode("ascii"), said) for form in ours)


def is_form(spoken: str) -> bool:
    """True when ``spoken`` could be a fingerprint of some key: 32 hex digits, or words that are letters only."""
    said = _joined(spoken)
    if len(said) == 2 * _SIZE and all(character in hexdigits for character in said):
        return True
    run_together = len(_parts(spoken)) == 1 and len(said) >= _SHORTEST_WORD * _WORDS
    return (run_together or len(_parts(spoken)) == _WORDS) and said.isascii() and said.isalpha()


def _joined(spoken: str) -> str:
    return "".join(_parts(spoken))


def _parts(spoken: str) -> list[str]:
    for separator in _SEPARATORS:
        spoken = spoken.replace(separator, " ")
    return spoken.lower().split()


def _short(public_key: bytes) -> bytes:
    return digest("fingerprint", public_key, size=_SIZE)


@cache
def _english() -> Mnemonic:
    return Mnemonic("english")
