"""The data elements of ISO 8583:1987: which hold digits, text or bytes, how long they are, and how they are written.

Why here: a profile says only how digits, lengths and bitmaps are written; the elements themselves are the standard's.
Must not: know what an element means to us; messages.py does.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from iso8583.specs import default

LAST: Final = 128
MTI_SIZE: Final = 4
BITMAP_SIZE: Final = 8
MAC_SIZE: Final = 8
MAC_ZEROS: Final = "00" * MAC_SIZE
SECOND_BITMAP: Final = 1
THIRD_BITMAP: Final = 65

Digits = Literal["ascii", "bcd"]
Form = dict[str, dict[str, Any]]
"""As pyiso8583 takes it."""

_NUMERIC: Final = frozenset((*range(2, 28), 32, 33, 49, 50, 51, 53, *range(66, 91), 99, 100))
_TRACKS: Final = frozenset((35, 36))
_VARIABLE_DIGITS: Final = {2: 1, 3: 2}


class Element(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a profile's host has an element where it is not as in the standard.

    ``size`` counts digits, characters or bytes; ``length_digits`` is 0 for a fixed size.
    """

    kind: Literal["digits", "text", "binary"]
    size: int
    length_digits: Literal[0, 2, 3] = 0


def _standard(number: int) -> Element:
    of_library: Any = default[str(number)]
    if of_library["data_enc"] == "b":
        kind: Literal["digits", "text", "binary"] = "binary"
    else:
        kind = "digits" if number in _NUMERIC | _TRACKS else "text"
    return Element(kind=kind, size=of_library["max_len"], length_digits=of_library["len_type"])


STANDARD: Final = {number: _standard(number) for number in range(2, LAST + 1)}


def form(
    *,
    header_size: int,
    digits: Digits,
    lengths: Digits,
    bitmaps: Literal["binary", "hex"],
    own: dict[int, Element],
) -> Form:
    """The elements as pyiso8583 takes them."""
    bitmap = (
        {"data_enc": "b", "max_len": BITMAP_SIZE} if bitmaps == "binary" else _fixed_text(BITMAP_SIZE * 2)
    )
    parts: Form = {
        "h": {"data_enc": "b", "max_len": header_size},
        "t": {"data_enc": "b", "max_len": MTI_SIZE // 2} if digits == "bcd" else _fixed_text(MTI_SIZE),
        "p": dict(bitmap),
        "1": dict(bitmap),
    }
    for number, element in (STANDARD | own).items():
        parts[str(number)] = _part(element, digits)
        if element.length_digits:
            size = _VARIABLE_DIGITS[element.length_digits] if lengths == "bcd" else element.length_digits
            parts[str(number)] |= {"len_type": size, "len_enc": "bcd" if lengths == "bcd" else "ascii"}
    return {
        name: {"len_type": 0, "len_enc": "ascii", "len_count": "bytes", "desc": name} | part
        for name, part in parts.items()
    }


def _part(element: Element, digits: Digits) -> dict[str, Any]:
    if element.kind == "binary":
        return {"data_enc": "b", "max_len": element.size}
    if element.kind == "digits" and digits == "bcd":
        return {"data_enc": "b", "max_len": element.size, "len_count": "nibbles", "left_pad": "0"}
    return _fixed_text(element.size)


def _fixed_text(size: int) -> dict[str, Any]:
    return {"data_enc": "ascii", "max_len": size}
