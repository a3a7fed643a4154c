"""ISO 8583 messages to bytes and back, by a profile; pyiso8583 does the work and sees no card.

Why here: the library checks no content, and its exceptions carry the whole message; none of them leaves this module.
Must not: let a card number become text, put anything of a message into an exception, or do I/O.

What came is copied, and the elements that may hold a card (``HIDDEN`` and the security code's) are overwritten in the
copy before the library sees it. For that, elements are walked here by their lengths; a frame without them is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import iso8583

from offline_processor.acquirers.iso8583.fields import (
    BITMAP_SIZE,
    LAST,
    MAC_ZEROS,
    SECOND_BITMAP,
    THIRD_BITMAP,
)
from offline_processor.errors import ProcessorError

if TYPE_CHECKING:
    from offline_processor.acquirers.iso8583.profile import Profile

LARGEST: Final = 8 * 1024
"""No message that we know of is larger."""

HIDDEN: Final = frozenset((2, 14, 34, 35, 36, 45, 52, 55, 102, 103))
"""PAN, expiry, tracks, PIN, chip data and accounts. What is read of them is zeros."""

_HALF: Final = LAST // 2
_HIDDEN_BITS: Final = sum(1 << LAST - number for number in HIDDEN)
_DIGITS_READ: Final = frozenset(("t", "3", "4", "7", "11", "12", "13", "49", "74", "76", "86", "88", "90"))
_PAN: Final = 2
_PAN_FEWEST: Final = 12
_BIN, _LAST_FOUR = 6, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: its type and its elements as text (digits, characters, or bytes as hexadecimal digits)."""

    mti: str
    fields: dict[int, str] = field(repr=False)


def encode(profile: Profile, message: Message) -> bytearray:
    """The frame without its length, with the profile's header. ``ISO-FORM`` when an element does not fit."""
    encoded = _encoded(profile, message)
    del message
    return _fitting(encoded)[0]


def layout(profile: Profile, message: Message) -> Mapping[int, slice]:
    """Where the data of each element lies in what ``encode`` returns."""
    encoded = _encoded(profile, message)
    del message
    return _fitting(encoded)[1]


def encode_with_layout(profile: Profile, message: Message) -> tuple[bytearray, Mapping[int, slice]]:
    """Both of ``encode`` and ``layout``, for the price of one. A MAC's place is left zero."""
    encoded = _encoded(profile, message)
    del message
    return _fitting(encoded)


def _fitting(encoded: tuple[bytearray, dict[int, slice]] | None) -> tuple[bytearray, dict[int, slice]]:
    if encoded is None:
        raise ProcessorError(
            "ISO-FORM",
            "a message does not fit the acquirer's profile",
            "compare the profile's elements with the acquirer's specification (PROFILES.md)",
        )
    return encoded


def _encoded(profile: Profile, message: Message) -> tuple[bytearray, dict[int, slice]] | None:
    named = {str(number): text for number, text in message.fields.items()}
    named["t"] = message.mti
    if profile.header:
        named["h"] = profile.header
    if profile.mac:
        number = LAST if profile.mac_field == LAST or max(message.fields, default=0) > _HALF else _HALF
        named[str(number)] = MAC_ZEROS
    try:
        raw, parts = iso8583.encode(named, profile.spec)
    except Exception:  # noqa: BLE001  whatever it is, it holds the message
        return None
    at, places = 0, {}
    for name, part in parts.items():
        at += len(part["len"])
        if name.isdecimal():
            places[int(name)] = slice(at, at + len(part["data"]))
        at += len(part["data"])
    places.pop(SECOND_BITMAP, None)
    return raw, places


def mac_places(profile: Profile, frame: memoryview) -> tuple[memoryview, memoryview] | None:
    """What a MAC covers of a frame without its length, and where it stands; None when the frame ends in none.

    It covers all from the message type up to the MAC, the bitmaps included, and no header. It is the last element: 128,
    or 64 where none follows it and ``mac_field`` allows it.
    """
    start = profile.spec["h"]["max_len"]
    at = start + profile.spec["t"]["max_len"]
    end = len(frame) - profile.spec[str(LAST)]["max_len"]
    try:
        present, at = _bitmap(profile, frame, at)
        more, at = _bitmap(profile, frame, at) if present >> _HALF - SECOND_BITMAP & 1 else (0, at)
    except ValueError:
        return None
    ends = more & 1 if more or profile.mac_field == LAST else present & 1
    return (frame[start:end], frame[end:]) if ends and at <= end else None


def decode(profile: Profile, raw: bytes | bytearray | memoryview, *, keep_ends: bool = False) -> Message:
    """What a frame without its length says; ``ISO-FORM`` when it is no message of this profile.

    What may hold a card reads as zeros; ``keep_ends`` (for an acquirer's side) leaves BIN and last four of a PAN.
    """
    copy = bytearray(raw[: LARGEST + 1])
    message = _decoded(profile, copy, keep_ends=keep_ends)
    copy[:] = bytes(len(copy))
    del raw
    if message is None:
        raise ProcessorError(
            "ISO-FORM",
            "what came from the acquirer is no message of the profile",
            "nothing counts as answered; compare the profile with the acquirer's specification (PROFILES.md)",
        )
    return message


def _decoded(profile: Profile, copy: bytearray, *, keep_ends: bool) -> Message | None:
    if len(copy) > LARGEST:
        return None
    try:
        _hide(profile, copy, keep_ends=keep_ends)
        named, _ = iso8583.decode(copy, profile.spec)
    except Exception:  # noqa: BLE001  whatever it is, it may hold the message
        return None
    digits = "".join([named[name] for name in _DIGITS_READ & named.keys()])
    if not (digits.isdecimal() and digits.isascii()):
        return None
    mti = named.pop("t")
    for name in ("h", "p", "1"):
        named.pop(name, None)
    return Message(mti=mti, fields={int(name): text for name, text in named.items()})


def _hide(profile: Profile, copy: bytearray, *, keep_ends: bool) -> None:
    """Overwrite what may hold a card. ``ValueError`` or ``IndexError`` for what is no message."""
    spec = profile.spec
    at = spec["h"]["max_len"] + spec["t"]["max_len"]
    present, at = _bitmap(profile, copy, at)
    if present >> _HALF - SECOND_BITMAP & 1:
        more, at = _bitmap(profile, copy, at)
        present = (present & ~(1 << _HALF - SECOND_BITMAP)) << _HALF | more
    else:
        present <<= _HALF
    if present >> LAST - THIRD_BITMAP & 1:
        raise ValueError
    hidden = HIDDEN | {profile.cvv_field}
    if not present & (_HIDDEN_BITS | 1 << LAST - profile.cvv_field):
        return
    numbers = [number for number in range(2, LAST + 1) if present >> LAST - number & 1]
    for number in numbers:
        part = spec[str(number)]
        count = _length(copy[at : at + part["len_type"]], part) if part["len_type"] else part["max_len"]
        at += part["len_type"]
        size = (count + 1) // 2 if part["len_count"] == "nibbles" else count
        if number in hidden:
            ends = keep_ends and number == _PAN and count >= _PAN_FEWEST
            _zero(copy, slice(at, at + size), part, ends=ends, odd=bool(count & 1))
        at += size


def _bitmap(profile: Profile, frame: bytearray | memoryview, at: int) -> tuple[int, int]:
    """(its bits, where it ends)."""
    if profile.bitmaps == "binary":
        end = at + BITMAP_SIZE
        return int.from_bytes(frame[at:end], "big"), end
    end = at + BITMAP_SIZE * 2
    return int.from_bytes(bytes.fromhex(bytes(frame[at:end]).decode("ascii")), "big"), end


def _length(data: bytearray, part: Mapping[str, str]) -> int:
    text = data.hex() if part["len_enc"] == "bcd" else data.decode("ascii")
    if not text.isdecimal():
        raise ValueError
    return int(text)


def _zero(copy: bytearray, place: slice, part: Mapping[str, str], *, ends: bool, odd: bool) -> None:
    start, stop = place.start, min(place.stop, len(copy))
    if part["data_enc"] == "b":
        if ends:
            start, stop = start + _BIN // 2, stop - _LAST_FOUR // 2
            if odd:  # the first half byte is padding, so the sixth digit is in the fourth byte
                copy[start] &= 0xF0
                start += 1
        copy[start:stop] = bytes(max(0, stop - start))
        return
    if ends:
        start, stop = start + _BIN, stop - _LAST_FOUR
    copy[start:stop] = b"0" * max(0, stop - start)


def security_code_text(profile: Profile, digits: int) -> str:
    """The text of the security code's element, with zeros in place of so many digits."""
    before = profile.cvv_before.replace("{length}", f"{digits:02d}")
    return before + ("0" * digits).rjust(profile.cvv_width)


def security_code_place(profile: Profile, places: Mapping[int, slice], digits: int) -> slice:
    """Where the digits of a security code lie in the frame; they end where its element ends."""
    end: int = places[profile.cvv_field].stop
    return slice(end - digits, end)


def prefix(profile: Profile, raw: bytes | bytearray | memoryview) -> bytes:
    """The length that goes before a frame; ``ISO-LENGTH``."""
    size = len(raw)
    del raw
    if not 0 < size <= LARGEST:
        raise _wrong_length()
    return size.to_bytes(2, "big") if profile.length_prefix == "binary2" else b"%04d" % size


def split(profile: Profile, received: bytearray) -> list[bytes]:
    """Take whole frames, without their lengths, off the front; what is not whole stays.

    ``ISO-LENGTH`` when the next length is none, zero or too large; whole frames before it are given first, so call
    it again until it returns none.
    """
    frames, at = [], 0
    size = -1
    width = 2 if profile.length_prefix == "binary2" else 4
    while len(received) - at >= width:
        size = _size(profile, received[at : at + width])
        if not 0 < size <= LARGEST or len(received) - at - width < size:
            break
        frames.append(bytes(received[at + width : at + width + size]))
        at += width + size
        size = -1
    del received[:at]
    del received
    if not frames and size != -1 and not 0 < size <= LARGEST:
        raise _wrong_length()
    return frames


def _size(profile: Profile, data: bytearray) -> int:
    if profile.length_prefix == "binary2":
        return int.from_bytes(data, "big")
    return int(data) if data.isdigit() else 0


def _wrong_length() -> ProcessorError:
    return ProcessorError(
        "ISO-LENGTH",
        f"a message on the acquirer's line has no length of 1 to {LARGEST} bytes",
        "the connection ends; check that the profile's length_prefix is the acquirer's (PROFILES.md)",
    )
