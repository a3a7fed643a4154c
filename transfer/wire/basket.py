"""The basket digest: what intake may see and vouch for, and the medium may not show.

Why here: page, intake and offline side compute it alike (FORMAT.md, section 5).
Must not: know the catalogue; prices are as given.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from keys.public.digest import digest
from transfer.wire.order import Item, Total

_NUMBERS = struct.Struct(">IQ")


def basket_digest(*, nonce: bytes, items: Sequence[Item], total: Total) -> bytes:
    """32 bytes over nonce (32), items with prices, total and currency."""
    parts = [nonce, len(items).to_bytes(2, "big")]
    for item in items:
        sku = item.sku.encode("ascii")
        parts += (bytes([len(sku)]), sku, _NUMBERS.pack(item.quantity, item.price))
    parts += (total.amount.to_bytes(8, "big"), total.currency.encode("ascii"))
    return digest("basket", b"".join(parts))
