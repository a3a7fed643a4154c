"""Order ids and nonces from the Idempotency-Key, and node ids.

Why here: page, intake and offline side must agree on them byte for byte (FORMAT.md, section 2).
Must not: keep or print an Idempotency-Key; it yields the order's access token.
"""

from __future__ import annotations

import re
from typing import NewType

from keys.public.digest import digest
from keys.public.roll import NODE_PATTERN
from transfer.errors import TransferError

OrderId = NewType("OrderId", str)
"""An order id as 32 lower-case hex digits."""

NodeId = NewType("NodeId", str)

ORDER_ID_SIZE = 16
_IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9_-]{22,128}", re.ASCII)
_NODE = re.compile(NODE_PATTERN, re.ASCII)


def check_idempotency_key(key: str) -> str:
    """Return ``key`` if it has FORMAT.md's form, else refuse it (``ORDER-IDEMPOTENCY-KEY``)."""
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise TransferError(
            "ORDER-IDEMPOTENCY-KEY",
            "the Idempotency-Key must be 22 to 128 characters of A-Z a-z 0-9 - _",
            "make at least 128 random bits and send them as base64url or hexadecimal",
        )
    return key


def order_id(idempotency_key: str) -> bytes:
    """The 16-byte order id."""
    return digest("order-id", check_idempotency_key(idempotency_key).encode("ascii"), size=ORDER_ID_SIZE)


def basket_nonce(idempotency_key: str) -> bytes:
    """The 32-byte nonce of the basket digest."""
    return digest("basket-nonce", check_idempotency_key(idempotency_key).encode("ascii"))


def check_node_id(name: str) -> NodeId:
    """Return ``name`` as a node id, else refuse it (``NODE-ID``)."""
    if not _NODE.fullmatch(name):
        raise TransferError("NODE-ID", "a node id is 1 to 32 characters a-z 0-9 -, not starting with -")
    return NodeId(name)
