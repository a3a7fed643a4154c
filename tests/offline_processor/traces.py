"""Looking for known cards and keys in bytes: a process's memory, or every file of a folder.

Why here: three digits are everywhere, so a security code counts in its field's context only (DESIGN.md, section 9).
Must not: be imported by the process that is searched; it would hold what is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_NEAR = 32
_DIGIT_RUN = re.compile(rb"[0-9]{12,}")
# FORMAT.md, section 7: number of digits, digits, zeros up to four, and the beginning of the padding.
_CVV_FIELD = re.compile(rb"(?=\x03([0-9]{3})\x00{5}|\x04([0-9]{4})\x00{4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """The cards to look for: PAN to CVV, ASCII digits."""

    cvv_of: Mapping[bytes, bytes]

    def pans_in(self, content: bytes) -> list[bytes]:
        """Every PAN that stands in ``content`` as digits."""
        sizes = {len(pan) for pan in self.cvv_of}
        found = []
        for run in _DIGIT_RUN.finditer(content):
            digits = run.group()
            for size in sizes:
                places = range(len(digits) - size + 1)
                found += [
                    digits[place : place + size]
                    for place in places
                    if digits[place : place + size] in self.cvv_of
                ]
        return found

    def cvvs_in(self, content: bytes) -> list[bytes]:
        """Every CVV in its field of a card compartment, or within 32 bytes of its PAN."""
        wanted = set(self.cvv_of.values())
        found = [
            digits
            for match in _CVV_FIELD.finditer(content)
            if (digits := match.group(1) or match.group(2)) in wanted
        ]
        for pan in set(self.pans_in(content)):
            for place in occurrences(content, pan):
                end = place + len(pan)
                near = content[max(0, place - _NEAR) : place] + b"|" + content[end : end + _NEAR]
                found += [self.cvv_of[pan]] * (self.cvv_of[pan] in near)
        return found


def occurrences(content: bytes, wanted: bytes) -> Iterator[int]:
    place = content.find(wanted)
    while place >= 0:
        yield place
        place = content.find(wanted, place + 1)


def keys_in(content: bytes, keys: Mapping[str, bytes]) -> set[str]:
    """The names of the keys that are there, by either half or as hex."""
    return {
        name
        for name, key in keys.items()
        if any(part in content for part in (key[:16], key[16:32], key[:32].hex().encode()))
    }


def files_under(folder: Path) -> dict[Path, bytes]:
    """Every plain file under a folder with its content."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
