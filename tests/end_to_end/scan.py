"""Looking for card data in every byte of every file under a folder.

Why here: the proof and its tests must look with the same eyes.
Must not: follow a symlink out of the folder, skip a file silently, or repeat what it found in its report.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# A CVV is three or four digits, which are everywhere; it is one where a field says so (DESIGN.md, section 9).
# In text: a name that somebody would give it, then the digits, also inside escaped JSON or a form.
_CVV_TEXT = re.compile(
    rb"(?:security[_ -]?code|card[_ -]?code|cvv2?|cvc2?|cav2|csc)"
    rb"[\\\"'\s]{0,8}[:=][\\\"'\s]{0,8}b?[\"']?[0-9]{3,4}(?![0-9])",
    re.IGNORECASE,
)
# In the card compartment's layout (FORMAT.md, section 7): month, year 2020 to 2047, number of digits, digits, zeros.
_CVV_COMPARTMENT = re.compile(rb"[\x01-\x0c]\x07[\xe4-\xff](?:\x03[0-9]{3}\x00|\x04[0-9]{4})\x00{8}")

PLANTED_CVV_TEXT = b'{"security_code": "737"}'
PLANTED_CVV_COMPARTMENT = b"\x0c\x07\xeb\x03737\x00" + bytes(25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One find: in which file, what kind, where. Never the digits."""

    path: Path
    kind: str
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a scan looked at and found. ``unread`` are files that it could not look into, with the reason."""

    files: int
    size: int
    pans: list[Found] = field(default_factory=list)
    cvvs: list[Found] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def outside(self, path: Path) -> Looked:
        """The same without the finds in ``path``."""
        return Looked(
            files=self.files,
            size=self.size,
            pans=[found for found in self.pans if found.path != path],
            cvvs=[found for found in self.cvvs if found.path != path],
            unread=self.unread,
        )


def digits_of(number: str) -> bytes:
    """A card number as people write it, as its digits."""
    return re.sub(r"[ -]", "", number).encode("ascii")


def spellings(pan: bytes) -> dict[str, bytes]:
    """The ways in which a card number may lie in a file, by kind."""
    text = pan.decode("ascii")
    grouped = [text[start : start + 4] for start in range(0, len(text), 4)]
    amex = [text[:4], text[4:10], text[10:]]
    return {
        "digits": pan,
        "digits in groups": " ".join(grouped).encode(),
        "digits in groups with dashes": "-".join(grouped).encode(),
        "digits in three groups": " ".join(amex).encode(),
        "digits in UTF-16": text.encode("utf-16-le"),
        "digits in UTF-32": text.encode("utf-32-le"),
        "digits as hexadecimal text": pan.hex().encode(),
    }


def scan(folder: Path, pans: Iterable[bytes]) -> Looked:
    """Look for every spelling of ``pans`` and for any CVV in its context, in names and bytes of all files."""
    needles = [(kind, needle) for pan in sorted(set(pans)) for kind, needle in spellings(pan).items()]
    files = size = 0
    found_pans: list[Found] = []
    found_cvvs: list[Found] = []
    unread: list[str] = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            unread.append(f"{path} is not a plain file")
            continue
        try:
            content = path.read_bytes()
        except OSError as error:
            unread.append(f"{path}: {error.strerror}")
            continue
        files += 1
        size += len(content)
        for where in (content, str(path.relative_to(folder)).encode("utf-8", "surrogateescape")):
            found_pans += [
                Found(path=path, kind=kind, offset=offset)
                for kind, needle in needles
                for offset in _occurrences(where, needle)
            ]
        found_cvvs += [
            Found(path=path, kind=kind, offset=match.start())
            for kind, pattern in (("text", _CVV_TEXT), ("card compartment", _CVV_COMPARTMENT))
            for match in pattern.finditer(content)
        ]
    return Looked(files=files, size=size, pans=found_pans, cvvs=found_cvvs, unread=unread)


def _occurrences(content: bytes, needle: bytes) -> Iterator[int]:
    offset = content.find(needle)
    while offset >= 0:
        yield offset
        offset = content.find(needle, offset + 1)
