"""Letters that a carrier's machines can read: what they cannot is written in Roman letters.

Why here: a parcel with boxes on its label goes nowhere, and the customer wrote the address in their own script.
Must not: drop a character in silence; what has no Roman letters makes the row a reject.
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from functools import lru_cache
from typing import Final

from anyascii import anyascii

_SPOKEN: Final = {"\N{ARABIC LETTER ALEF}": "a"}  # not one of the letters that are left out
_DIRECTIONS: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
_WORDS: Final = ("CJK ", "CUNEIFORM ")  # scripts whose characters are words


class Letters(StrEnum):
    """ANY: every script. LATIN: Latin letters with their accents. ASCII: A to Z without accents."""

    ANY = "any"
    LATIN = "latin"
    ASCII = "ascii"


class Encoding(StrEnum):
    """How a file's characters are written."""

    UTF_8 = "utf-8"
    WINDOWS_1252 = "windows-1252"


def in_letters(text: str, letters: Letters, encoding: Encoding = Encoding.UTF_8) -> str | None:
    """``text`` in the letters that are allowed, transliterated where it must be; None where that is impossible."""
    # One character composed of several would be judged in pieces.
    composed = unicodedata.normalize("NFC", without_directions(text))
    written = []
    for character in composed:
        if _is_allowed(character, letters, encoding):
            written.append(character)
        elif roman := _roman(character):
            begins = not written or not written[-1][-1].isalnum()
            written.append(roman[0].upper() + roman[1:] if begins and _has_no_case(character) else roman)
        elif not _is_silent(character):
            return None
    return "".join(written).strip()


def without_directions(text: str) -> str:
    """The text without what would turn the direction of everything after it: no letter of it is lost."""
    return _DIRECTIONS.sub("", text)


@lru_cache(maxsize=4096)
def _is_allowed(character: str, letters: Letters, encoding: Encoding) -> bool:
    if encoding is Encoding.WINDOWS_1252 and not _in_windows_1252(character):
        return False
    match letters:
        case Letters.ANY:
            return True
        case Letters.LATIN:
            return character.isascii() or unicodedata.name(character, "").startswith("LATIN ")
        case Letters.ASCII:
            return character.isascii()


def _in_windows_1252(character: str) -> bool:
    try:
        character.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=4096)
def _roman(character: str) -> str:
    return (_SPOKEN.get(character) or anyascii(character)).replace("`", "'")


def _has_no_case(character: str) -> bool:
    """True for a letter of a script that has no capitals: a name in it begins with one in Roman letters."""
    return unicodedata.category(character) == "Lo"


def _is_silent(character: str) -> bool:
    """What only joins, directs or marks its neighbours, or is not spoken: a carrier misses nothing without it."""
    category = unicodedata.category(character)
    spoken = unicodedata.name(character, "CJK ").startswith(_WORDS)
    return category in ("Cf", "Mn", "Me") or (category in ("Lm", "Lo") and not spoken)
