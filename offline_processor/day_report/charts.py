"""Plots as SVG text: columns over the hours of a day, and bars with their figures beside them.

Why here: page and paper show the same drawing, and neither may need a script, a font file or another resource.
Must not: show a figure by its colour alone, or put anything into the drawing that is not escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

FONTS: Final = "'Noto Sans', 'DejaVu Sans', 'Libertinus Serif', sans-serif"
INK, FAINT = "#222222", "#8a8a8a"
_WIDTH: Final = 720
_LEFT, _TOP, _BOTTOM = 64, 30, 26
_HIGH: Final = 190
_BAR, _BETWEEN = 18, 9
_STEPS: Final = (1, 2, 5)
_PER_LETTER: Final = 6.6
_TICKS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One kind of value: what the legend calls it, and its colour (of a palette for every kind of eyes)."""

    name: str
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: its label, a value for each series, and the figure in words at its end."""

    label: str
    values: tuple[int, ...]
    note: str


def columns(
    title: str, series: Sequence[Series], values: Sequence[Sequence[int]], labels: Sequence[str]
) -> str:
    """Stacked columns: ``values[n]`` has one value for each series; ``labels[n]`` stands below, "" for none."""
    most = max((sum(column) for column in values), default=0)
    step = tick_step(most)
    top = max(step * -(-most // step), step)
    plot = _HIGH - _TOP - _BOTTOM
    wide = (_WIDTH - _LEFT - 10) / max(len(values), 1)
    parts = [_legend(series)]
    for tick in range(0, top + 1, step):
        y = _TOP + plot * (1 - tick / top)
        parts.append(_line(_LEFT, y, _WIDTH - 10, y, FAINT, 0.5 if tick else 1.0))
        parts.append(_text(_LEFT - 8, y + 4, grouped(tick), anchor="end"))
    for place, column in enumerate(values):
        x, y = _LEFT + place * wide, _TOP + float(plot)
        for one, value in zip(series, column, strict=True):
            height = plot * value / top
            y -= height
            if value:
                what = f"{labels_or(labels, place)}: {grouped(value)} {one.name}"
                parts.append(_box(x + wide * 0.1, y, wide * 0.8, height, one.colour, what))
        if labels[place]:
            parts.append(_text(x + wide / 2, _HIGH - 8, labels[place], anchor="middle"))
    return _drawing(title, _HIGH, parts)


def bars(title: str, series: Sequence[Series], rows: Sequence[Bar]) -> str:
    """Horizontal bars, each stacked of its values, with label before and figure behind."""
    before = 16 + max((len(row.label) for row in rows), default=0) * _PER_LETTER
    behind = 16 + max((len(row.note) for row in rows), default=0) * _PER_LETTER
    most = max((sum(row.values) for row in rows), default=0) or 1
    scale = (_WIDTH - before - behind) / most
    head = 30 if len(series) > 1 else 6
    parts = [_legend(series)] if len(series) > 1 else []
    for place, row in enumerate(rows):
        y = head + place * (_BAR + _BETWEEN)
        x = before
        parts.append(_text(before - 10, y + _BAR - 4, row.label, anchor="end"))
        for one, value in zip(series, row.values, strict=True):
            if value:
                parts.append(
                    _box(x, y, max(value * scale, 1.0), _BAR, one.colour, f"{grouped(value)} {one.name}")
                )
            x += value * scale
        parts.append(_text(x + 8, y + _BAR - 4, row.note))
    return _drawing(title, head + len(rows) * (_BAR + _BETWEEN), parts)


def tick_step(most: int) -> int:
    """A round step that gives about four lines up to ``most``."""
    ten = 1
    while True:
        for step in _STEPS:
            if step * ten * _TICKS >= most:
                return step * ten
        ten *= 10


def grouped(number: int) -> str:
    """A count with its thousands apart."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def labels_or(labels: Sequence[str], place: int) -> str:
    """What a column is called where it is pointed at."""
    return labels[place] or str(place)


def _legend(series: Sequence[Series]) -> str:
    parts, x = [], float(_LEFT)
    for one in series:
        parts.append(_box(x, 4, 11, 11, one.colour, ""))
        parts.append(_text(x + 16, 14, one.name))
        x += 34 + len(one.name) * _PER_LETTER
    return "".join(parts)


def _drawing(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}"'
        f' height="{height:.0f}" role="img" aria-label="{escape(title)}" font-family="{escape(FONTS)}" font-size="12">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _box(x: float, y: float, width: float, height: float, colour: str, what: str) -> str:
    title = f"<title>{escape(what)}</title>" if what else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}">{title}</rect>'


def _line(left: float, top: float, right: float, bottom: float, colour: str, width: float) -> str:
    ends = f'x1="{left:.1f}" y1="{top:.1f}" x2="{right:.1f}" y2="{bottom:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'
