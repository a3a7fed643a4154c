"""Frames on the line: a message written into locked memory with its card, and whole frames found in what came.

Why here: the only place where PAN, expiry and CVV meet a message, and both ends of the line are locked memory.
Must not: make str or bytes of a card, or leave a card in memory that is not the caller's locked buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from offline_processor.acquirers.iso8583 import codec
from offline_processor.acquirers.iso8583.codec import LARGEST, Message
from offline_processor.errors import ProcessorError
from transfer.wire.card import CardView

if TYPE_CHECKING:
    from offline_processor.acquirers.iso8583.profile import Profile

PREFIX_MOST: Final = 4
FRAME_MOST: Final = LARGEST + PREFIX_MOST
_PAN, _EXPIRY = 2, 14
_ASCII_ZERO: Final = 0x30


class Mac(Protocol):
    """The line's message authentication."""

    def write(self, covered: memoryview, place: memoryview) -> None:
        """Put the code of what is ``covered`` into its ``place``."""
        ...

    def holds(self, covered: memoryview, place: memoryview) -> bool:
        """True when ``place`` has the code of what is ``covered``; compared in constant time."""
        ...


def write_frame(
    profile: Profile, message: Message, card: CardView | None, target: memoryview, *, mac: Mac | None = None
) -> int:
    """Write length and message at the front of ``target``, with the card's digits in their places; how many bytes.

    ``mac`` is written last, where the profile asks for one. ``target`` is locked memory of ``FRAME_MOST`` bytes at
    least, which the caller wipes. ``ISO-FORM`` as ``encode``, or when message and card do not belong together: then
    nothing of the card was written.
    """
    frame, places = codec.encode_with_layout(profile, message)
    if not _belong_together(profile, message, card):
        raise ProcessorError("ISO-FORM", "a message has no card for its card elements; nothing was sent")
    before = codec.prefix(profile, frame)
    size = len(before) + len(frame)
    target[: len(before)] = before
    target[len(before) : size] = frame
    if card is not None:
        _overwrite(profile, places, card, target[len(before) : size])
    if profile.mac:
        _authenticate(profile, target[len(before) : size], mac)
    return size


def _authenticate(profile: Profile, frame: memoryview, mac: Mac | None) -> None:
    places = codec.mac_places(profile, frame)
    if mac is None or places is None:
        raise AssertionError("a profile with a MAC has its key, and every message a place for it")
    mac.write(*places)


def is_authentic(profile: Profile, frame: memoryview, mac: Mac | None) -> bool:
    """True when this frame without its length ends in its MAC, or the profile asks for none."""
    if not profile.mac:
        return True
    places = codec.mac_places(profile, frame)
    return mac is not None and places is not None and mac.holds(*places)


def _belong_together(profile: Profile, message: Message, card: CardView | None) -> bool:
    """True when the message has room for this card's digits, no more and no fewer, or for none and there is none."""
    pan, expiry, code = (message.fields.get(number) for number in (_PAN, _EXPIRY, profile.cvv_field))
    if card is None:
        return pan is None and expiry is None and code is None
    if pan is None or len(pan) != len(card.pan) or expiry is None:
        return False
    return code is None or (len(card.cvv) > 0 and code == codec.security_code_text(profile, len(card.cvv)))


def _overwrite(profile: Profile, places: Mapping[int, slice], card: CardView, frame: memoryview) -> None:
    _put(frame[places[_PAN]], card.pan, packed=_is_packed(profile, _PAN))
    # Small integers are shared by the whole interpreter: to make one leaves nothing behind.
    year, month = card.expiry_year % 100, card.expiry_month
    expiry = (year // 10, year % 10, month // 10, month % 10)
    _put_digits(frame[places[_EXPIRY]], expiry, packed=_is_packed(profile, _EXPIRY))
    if profile.cvv_field in places:
        if _is_packed(profile, profile.cvv_field):
            _put(frame[places[profile.cvv_field]], card.cvv, packed=True)
        else:
            place = codec.security_code_place(profile, places, len(card.cvv))
            _put(frame[place], card.cvv, packed=False)


def _is_packed(profile: Profile, number: int) -> bool:
    """True when two digits share a byte there."""
    return bool(profile.spec[str(number)]["data_enc"] == "b")


def _put(place: memoryview, digits: memoryview, *, packed: bool) -> None:
    """Write ASCII digits so that the last one ends the place; what is before them stays."""
    if packed:
        for back in range(len(digits)):
            _put_half(place, back, digits[len(digits) - 1 - back] - _ASCII_ZERO)
    else:
        place[len(place) - len(digits) :] = digits


def _put_digits(place: memoryview, digits: tuple[int, ...], *, packed: bool) -> None:
    for back, digit in enumerate(reversed(digits)):
        if packed:
            _put_half(place, back, digit)
        else:
            place[len(place) - 1 - back] = _ASCII_ZERO + digit


def _put_half(place: memoryview, back: int, digit: int) -> None:
    """Set the half byte that is ``back`` half bytes before the last one."""
    at = len(place) - 1 - back // 2
    place[at] = (place[at] & 0x0F) | digit << 4 if back & 1 else (place[at] & 0xF0) | digit


def next_frame(profile: Profile, received: memoryview) -> tuple[memoryview | None, int]:
    """The first whole frame, without its length, and where the next begins; (None, 0) when none is whole.

    ``ISO-LENGTH`` when its length is none, zero or too large. A view and no copy: a host may repeat a PAN.
    """
    width = 2 if profile.length_prefix == "binary2" else PREFIX_MOST
    if len(received) < width:
        return None, 0
    head = bytes(received[:width])
    size = int.from_bytes(head, "big") if profile.length_prefix == "binary2" else _number(head)
    if not 0 < size <= LARGEST:
        raise ProcessorError(
            "ISO-LENGTH",
            f"a message on the acquirer's line has no length of 1 to {LARGEST} bytes",
            "the connection ends; check that the profile's length_prefix is the acquirer's (PROFILES.md)",
        )
    end = width + size
    return (None, 0) if len(received) < end else (received[width:end], end)


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() else 0
