"""The browser-sealed part of an order: three pieces of base64, judged by size and by what the clear header says.

Why here: intake checks what it can see of an envelope that it did not make; the boxes stay closed.
Must not: try to open a box, or trust the header's time.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keys.public.digest import equal
from keys.public.seal import SEAL_OVERHEAD
from transfer.errors import TransferError
from transfer.wire.envelope import CARD_BOX_SIZE, Envelope
from transfer.wire.header import HEADER_SIZE, SUITE_SEALED_BOX, Header, Kind, decode_header
from transfer.wire.order import COMPARTMENT_LIMIT, STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedParts:
    """An envelope as the browser made it, with its header read."""

    envelope: Envelope
    header: Header


def read_sealed(holder: dict[str, Any] | None, fault: Callable[[str, str], None]) -> SealedParts | None:
    """Decode the three parts and check their sizes and the header's form; faults go to ``fault(pointer, detail)``."""
    if holder is None:
        return None
    parts = {name: _bytes(holder, name, fault) for name in ("header", "order", "card")}
    header_bytes, order_box, card_box = parts["header"], parts["order"], parts["card"]
    header = None
    if header_bytes is not None:
        header = _header(header_bytes, fault)
    if order_box is not None:
        size = len(order_box) - SEAL_OVERHEAD
        if not 0 < size <= COMPARTMENT_LIMIT or size % STEP:
            fault("/sealed/order", "does not have one of the sizes that FORMAT.md gives for an order box")
    if card_box is not None and len(card_box) != CARD_BOX_SIZE:
        fault("/sealed/card", f"must be a card box of {CARD_BOX_SIZE} bytes")
    if header is None or header_bytes is None or order_box is None or card_box is None:
        return None
    return SealedParts(
        envelope=Envelope(header=header_bytes, order_box=order_box, card_box=card_box), header=header
    )


def header_fault(header: Header, *, order_id: bytes, basket_digest: bytes) -> str | None:
    """What in the header is not of this order (16-byte id and 32-byte digest, recomputed here), or None."""
    if header.kind is not Kind.ORDER:
        return "is not the header of an order"
    if header.suite != SUITE_SEALED_BOX:
        return "names a suite that is not known"
    if not equal(header.order_id, order_id):
        return "holds an order id that is not of this Idempotency-Key"
    if not equal(header.basket_digest, basket_digest):
        return "holds a basket digest that is not of these items and this total"
    return None


def _bytes(holder: dict[str, Any], name: str, fault: Callable[[str, str], None]) -> bytes | None:
    value = holder.get(name)
    if type(value) is str:
        try:
            return base64.b64decode(value.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            pass
    fault(f"/sealed/{name}", "must be base64 with padding" if name in holder else "is missing")
    return None


def _header(raw: bytes, fault: Callable[[str, str], None]) -> Header | None:
    if len(raw) != HEADER_SIZE:
        fault("/sealed/header", f"must be a header of {HEADER_SIZE} bytes")
        return None
    try:
        return decode_header(raw)
    except TransferError:
        fault("/sealed/header", "is not a header of version 1")
        return None
