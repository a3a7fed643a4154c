"""Envelopes and the frames in which they stand in a file.

Why here: the spool's group files and a bundle's envelopes file are the same frames (FORMAT.md, section 4).
Must not: open a box or judge an order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from keys.public.seal import SEAL_OVERHEAD
from transfer.errors import TransferError
from transfer.wire.header import HEADER_SIZE

CARD_BOX_SIZE = 128 + SEAL_OVERHEAD
ENVELOPE_LIMIT = 20_000
FRAME_LIMIT = 65_536
_LENGTH = struct.Struct(">I")
LENGTH_SIZE = _LENGTH.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One sealed order: 92 header bytes and two sealed boxes."""

    header: bytes
    order_box: bytes
    card_box: bytes


class Readable(Protocol):
    """A binary file open for reading."""

    def read(self, size: int, /) -> bytes: ...


def encode_envelope(envelope: Envelope) -> bytes:
    """Header || u32 || order box || u32 || card box."""
    order_box, card_box = envelope.order_box, envelope.card_box
    return b"".join(
        (envelope.header, _LENGTH.pack(len(order_box)), order_box, _LENGTH.pack(len(card_box)), card_box)
    )


def decode_envelope(raw: bytes) -> Envelope:
    """Split an envelope; ``ENVELOPE-FORM`` when its lengths do not add up."""
    order_start = HEADER_SIZE + LENGTH_SIZE
    if len(raw) < order_start + LENGTH_SIZE:
        raise TransferError("ENVELOPE-FORM", "an envelope is cut short")
    (order_size,) = _LENGTH.unpack_from(raw, HEADER_SIZE)
    card_start = order_start + order_size + LENGTH_SIZE
    if card_start > len(raw):
        raise TransferError("ENVELOPE-FORM", "an envelope's order box is longer than the envelope")
    (card_size,) = _LENGTH.unpack_from(raw, card_start - LENGTH_SIZE)
    if card_start + card_size != len(raw):
        raise TransferError("ENVELOPE-FORM", "an envelope's card box does not end where the envelope ends")
    return Envelope(
        header=raw[:HEADER_SIZE],
        order_box=raw[order_start : order_start + order_size],
        card_box=raw[card_start:],
    )


def frame(envelope: bytes) -> bytes:
    """u32 length || envelope."""
    return _LENGTH.pack(len(envelope)) + envelope


def iter_frames(source: Readable) -> Iterator[bytes]:
    """Yield each envelope's bytes; ``ENVELOPE-FRAME`` on a frame that is cut short or above the limit."""
    while length := source.read(LENGTH_SIZE):
        if len(length) < LENGTH_SIZE:
            raise TransferError("ENVELOPE-FRAME", "the file ends inside a frame's length")
        (size,) = _LENGTH.unpack(length)
        if size > FRAME_LIMIT:
            raise TransferError("ENVELOPE-FRAME", f"a frame of {size} bytes is not allowed")
        raw = source.read(size)
        if len(raw) < size:
            raise TransferError("ENVELOPE-FRAME", "the file ends inside a frame")
        yield raw
