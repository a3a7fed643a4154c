"""Which fonts this machine has for paper, and whether they have every character of a text.

Why here: a typesetter draws a box for what it lacks and says nothing; a parcel with boxes for an address is lost.
Must not: read a font as more than its table of characters, or guess that one has a character.
"""

from __future__ import annotations

import struct
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import typst

SYSTEM: Final = Path("/usr/share/fonts")
CORE, CJK, DEJAVU = "fonts-noto-core", "fonts-noto-cjk", "fonts-dejavu-core"
PACKAGES: Final = (CORE, CJK)
"""The Debian packages that have a font for nearly every script that is written today."""

_SCRIPTS: Final = (
    *(
        "Arabic",
        "Hebrew",
        "Devanagari",
        "Thai",
        "Bengali",
        "Tamil",
        "Telugu",
        "Gujarati",
        "Gurmukhi",
        "Kannada",
    ),
    *("Malayalam", "Sinhala", "Georgian", "Armenian", "Ethiopic", "Khmer", "Lao", "Myanmar", "Oriya"),
)
_HAN: Final = {"JP": "JP", "KR": "KR", "KP": "KR", "TW": "TC", "HK": "HK", "MO": "HK"}
_HAN_ALL: Final = ("SC", "JP", "KR", "TC", "HK")
_CJK_FAMILY: Final = "Noto Sans CJK"
_FAMILIES: Final = (
    "Noto Sans",
    *(f"Noto Sans {script}" for script in _SCRIPTS),
    *(f"{_CJK_FAMILY} {form}" for form in _HAN_ALL),
    "DejaVu Sans",
)
EMBEDDED: Final = (
    "Libertinus Serif"  # comes with the typesetter, so that a machine without fonts prints Latin letters
)
_EMBEDDED_LAST: Final = 0x17F
_CJK_WORDS: Final = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "HANGUL",
    "BOPOMOFO",
    "IDEOGRAPHIC",
    "FULLWIDTH",
    "HALFWIDTH",
)
_REGULAR: Final = 400
_LARGEST: Final = 64 * 1024 * 1024
Ranges = tuple[tuple[int, int], ...]


class FontBook:
    """The fonts in ``directory`` (the system's unless one is named) that paper is set in, best first."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory
        regular = {
            (font.family, font.style): font
            for font in font_files(directory).fonts()
            if font.weight == _REGULAR and font.path
        }
        self._files = {
            family: (Path(font.path), font.index)
            for family in _FAMILIES
            if (font := regular.get((family, "normal"))) is not None and font.path is not None
        }
        self._known: dict[str, str] = {}

    @property
    def is_bare(self) -> bool:
        """True when this machine has none of the fonts, and only the typesetter's own is there."""
        return not self._files

    def families(self, texts: Iterable[str] = (), country: str = "") -> list[str]:
        """The families that these texts of an address in ``country`` need, best first.

        As few as can be: every further one costs the typesetter time and memory for every word.
        """
        wanted = dict.fromkeys("".join(texts))
        return list(
            dict.fromkeys([_FAMILIES[0], *filter(None, (self._family(c, country) for c in wanted)), EMBEDDED])
        )

    def _family(self, character: str, country: str) -> str | None:
        family = self._known.get(character)
        if family is None:
            family = self._known[character] = self._find(character)
        # Chinese characters have forms of their own in some countries.
        form = f"{_CJK_FAMILY} {_HAN.get(country, 'SC')}"
        return form if family.startswith(_CJK_FAMILY) and form in self._files else family or None

    def lacking(self, texts: Iterable[str]) -> str:
        """The characters of ``texts`` that no font here has, each once."""
        wanted = dict.fromkeys("".join(texts))
        return "".join(character for character in wanted if not self._family(character, ""))

    def _find(self, character: str) -> str:
        """The first family that has it; the typesetter's own for what is not drawn; "" for none."""
        # What only directs or joins is not drawn; what is unassigned is drawn as a box.
        code = ord(character)
        if character.isspace() or unicodedata.category(character) == "Cf":
            return EMBEDDED
        for family, (path, index) in self._files.items():
            if _covers(characters_of(path, index), code):
                return family
        return EMBEDDED if code <= _EMBEDDED_LAST and character.isprintable() else ""


def font_files(directory: Path | None) -> typst.Fonts:
    """All fonts in the directory, or in the system's, and the typesetter's own."""
    import typst  # noqa: PLC0415  a large library, which a process that opens keys does not load

    return typst.Fonts(
        include_system_fonts=False, include_embedded_fonts=True, font_paths=[directory or SYSTEM]
    )


def missing_in_words(lacking: str) -> str:
    """What is missing and what to install, in words that repeat nothing a person wrote."""
    scripts = sorted({unicodedata.name(character, "UNKNOWN").split()[0].lower() for character in lacking})
    packages = sorted({CJK if script.upper() in _CJK_WORDS else CORE for script in scripts})
    return f"no font here has its {', '.join(scripts)} characters: apt-get install {' '.join(packages)}"


def _covers(ranges: Ranges, code: int) -> bool:
    place = bisect_right(ranges, (code, 0x11_0000))
    return place > 0 and ranges[place - 1][1] >= code


@lru_cache(maxsize=64)
def characters_of(path: Path, index: int) -> Ranges:
    """The characters (first, last) that a font has glyphs for, in order; none for what is no font.

    From its ``cmap`` table, formats 4 and 12 (OpenType 1.9, section cmap).
    """
    try:
        with path.open("rb") as file:
            raw = memoryview(file.read(_LARGEST))
        return _joined(_best_cmap(raw, index))
    except (OSError, struct.error, IndexError, ValueError):
        return ()


def _best_cmap(raw: memoryview, index: int) -> list[tuple[int, int]]:
    start = 0
    if bytes(raw[:4]) == b"ttcf":
        (start,) = struct.unpack_from(">L", raw, 12 + 4 * index)
    (tables,) = struct.unpack_from(">H", raw, start + 4)
    for place in range(tables):
        tag, _, offset, _ = struct.unpack_from(">4sLLL", raw, start + 12 + 16 * place)
        if tag == b"cmap":
            return _cmap(raw, offset)
    return []


def _cmap(raw: memoryview, cmap: int) -> list[tuple[int, int]]:
    (count,) = struct.unpack_from(">H", raw, cmap + 2)
    offsets = [struct.unpack_from(">L", raw, cmap + 4 + 8 * place + 4)[0] for place in range(count)]
    formats = {struct.unpack_from(">H", raw, cmap + offset)[0]: cmap + offset for offset in offsets}
    if 12 in formats:  # noqa: PLR2004  the name of a format
        return _format_12(raw, formats[12])
    return _format_4(raw, formats[4]) if 4 in formats else []  # noqa: PLR2004


def _format_12(raw: memoryview, at: int) -> list[tuple[int, int]]:
    (groups,) = struct.unpack_from(">L", raw, at + 12)
    found = []
    for place in range(groups):
        first, last, glyph = struct.unpack_from(">LLL", raw, at + 16 + 12 * place)
        found.append((first if glyph else first + 1, last))
    return found


def _format_4(raw: memoryview, at: int) -> list[tuple[int, int]]:
    (doubled,) = struct.unpack_from(">H", raw, at + 6)
    segments = doubled // 2
    found = []
    for place in range(segments):
        (last,) = struct.unpack_from(">H", raw, at + 14 + 2 * place)
        (first,) = struct.unpack_from(">H", raw, at + 16 + doubled + 2 * place)
        (delta,) = struct.unpack_from(">H", raw, at + 16 + 2 * doubled + 2 * place)
        here = at + 16 + 3 * doubled + 2 * place
        (offset,) = struct.unpack_from(">H", raw, here)
        for code in range(first, min(last, 0xFFFE) + 1):
            glyph = code
            if offset:
                (glyph,) = struct.unpack_from(">H", raw, here + offset + 2 * (code - first))
            if (offset == 0 or glyph) and (glyph + delta) & 0xFFFF:
                found.append((code, code))
    return found


def _joined(ranges: Sequence[tuple[int, int]]) -> Ranges:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        elif first <= last:
            joined.append((first, last))
    return tuple(joined)
