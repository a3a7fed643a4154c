"""The clear header of an envelope.

Why here: intake, spool and offline side read it without opening anything (FORMAT.md, section 4).
Must not: be trusted for more than it says; only the compartments bind it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from keys.public.digest import digest
from transfer.errors import TransferError

FORMAT_VERSION = 1
SUITE_SEALED_BOX = 1
HEADER_SIZE = 92
_LAYOUT = struct.Struct(">BBBB16s16s16sQ32s")
ZERO_KEY_ID = bytes(16)


class Kind(IntEnum):
    """What an envelope holds."""

    ORDER = 1
    SUBJECT_REQUEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """``order_id``, ``order_key_id``, ``batch_key_id``: 16 bytes; ``basket_digest``: 32; ``time``: Unix seconds.

    ``suite`` is any byte: an unknown one is for the screening to quarantine, not for the parser to refuse.
    """

    kind: Kind = Kind.ORDER
    suite: int = SUITE_SEALED_BOX
    order_id: bytes
    order_key_id: bytes
    batch_key_id: bytes
    time: int
    basket_digest: bytes


def encode_header(header: Header) -> bytes:
    """The 92 canonical bytes."""
    return _LAYOUT.pack(
        FORMAT_VERSION,
        header.kind,
        header.suite,
        0,
        header.order_id,
        header.order_key_id,
        header.batch_key_id,
        header.time,
        header.basket_digest,
    )


def decode_header(raw: bytes) -> Header:
    """Parse 92 bytes; ``ENVELOPE-HEADER`` when size, version, kind or the zero byte are wrong."""
    if len(raw) != HEADER_SIZE:
        raise TransferError("ENVELOPE-HEADER", f"a header has {HEADER_SIZE} bytes, not {len(raw)}")
    version, kind, suite, zero, order_id, order_key_id, batch_key_id, time, basket_digest = _LAYOUT.unpack(
        raw
    )
    if version != FORMAT_VERSION or kind not in (1, 2) or zero:
        raise TransferError(
            "ENVELOPE-HEADER", f"unknown format version {version}, kind {kind} or flags {zero}"
        )
    return Header(
        kind=Kind(kind),
        suite=suite,
        order_id=order_id,
        order_key_id=order_key_id,
        batch_key_id=batch_key_id,
        time=time,
        basket_digest=basket_digest,
    )


def header_digest(raw: bytes) -> bytes:
    """What both compartments carry to say whose they are."""
    return digest("header", raw)
