"""Record covers, drawn by rule from the SKU: the same record has the same cover on every machine.

Why here: a shop's own catalogue gets covers as well, and no picture of anybody else's is shipped.
Must not: use randomness, or put an unescaped text into the drawing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from html import escape

from intake.catalogue import Record

ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="15" fill="#12355b"/>'
    b'<circle cx="16" cy="16" r="6" fill="#e9c46a"/><circle cx="16" cy="16" r="1.5" fill="#12355b"/></svg>'
)
"""What a browser shows in a tab."""

_SIZE = 240
_PALETTES = (
    ("#1b2a41", "#e9c46a", "#f4f1de"),
    ("#5f0f40", "#fb8b24", "#fff3e0"),
    ("#0b3d2e", "#a3d9a5", "#f1faee"),
    ("#22223b", "#c9ada7", "#f2e9e4"),
    ("#7f2a1d", "#f2c14e", "#fdf6e3"),
    ("#12355b", "#d72638", "#f7f0f5"),
    ("#33415c", "#7dcfb6", "#fbfbf2"),
    ("#3d2645", "#f0a6ca", "#f0e6ef"),
)
_TITLE_LIMIT, _LINE_LIMIT, _LINES = 66, 22, 3


def cover(record: Record) -> bytes:
    """An SVG document of 240 by 240 units."""
    chance = hashlib.blake2b(record.sku.encode("ascii"), digest_size=32, person=b"cover").digest()
    ground, mark, paper = _PALETTES[chance[0] % len(_PALETTES)]
    shapes = "".join(_DRAWINGS[chance[1] % len(_DRAWINGS)](chance[2:], mark, paper))
    rows = "".join(
        f'<text x="16" y="{198 + 18 * number}" font-size="16" font-weight="700" fill="{paper}">{escape(line)}</text>'
        for number, line in enumerate(_lines(record.title))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIZE} {_SIZE}">'
        f'<rect width="{_SIZE}" height="{_SIZE}" fill="{ground}"/>{shapes}'
        f'<rect y="176" width="{_SIZE}" height="64" fill="{ground}"/>'
        f'<g font-family="Georgia, serif">{rows}</g></svg>'
    ).encode()


def _lines(title: str) -> Iterator[str]:
    line = ""
    for word in title[:_TITLE_LIMIT].split():
        if line and len(line) + 1 + len(word) > _LINE_LIMIT:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line[: _LINE_LIMIT * _LINES]


def _rings(chance: bytes, mark: str, paper: str) -> Iterator[str]:
    x, y = 60 + chance[0] % 120, 50 + chance[1] % 70
    for number in range(7):
        colour = mark if number % 2 else paper
        width = 2 + chance[2 + number] % 7
        yield (
            f'<circle cx="{x}" cy="{y}" r="{96 - 13 * number}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
        )


def _bars(chance: bytes, mark: str, paper: str) -> Iterator[str]:
    for number in range(12):
        height = 20 + chance[number] % 130
        colour = paper if chance[number + 12] % 4 == 0 else mark
        yield f'<rect x="{16 + 18 * number}" y="{168 - height}" width="12" height="{height}" fill="{colour}"/>'


def _hills(chance: bytes, mark: str, paper: str) -> Iterator[str]:
    yield f'<circle cx="{50 + chance[0] % 140}" cy="{40 + chance[1] % 40}" r="{18 + chance[2] % 18}" fill="{paper}"/>'
    for number in range(3):
        top = 150 - 30 * (2 - number) - chance[3 + number] % 30
        peak = 30 + chance[6 + number] % 180
        yield (
            f'<path d="M0 240 L0 {top + 30} Q{peak} {top - 40} 240 {top + 20} L240 240 Z" '
            f'fill="{mark}" opacity="{0.35 + 0.3 * number:.2f}"/>'
        )


def _squares(chance: bytes, mark: str, paper: str) -> Iterator[str]:
    for number in range(24):
        x, y = 16 + 36 * (number % 6), 16 + 38 * (number // 6)
        size = 6 + chance[number] % 26
        colour = paper if chance[number] % 5 == 0 else mark
        turn = 45 if chance[number] % 2 else 0
        place = f'x="{x}" y="{y}" width="{size}" height="{size}"'
        yield f'<rect {place} fill="{colour}" transform="rotate({turn} {x + 14} {y + 14})"/>'


_Drawing = Callable[[bytes, str, str], Iterator[str]]
_DRAWINGS: tuple[_Drawing, ...] = (_rings, _bars, _hills, _squares)
