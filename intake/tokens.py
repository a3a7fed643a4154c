"""Access tokens: what lets the person who ordered see the order's status.

Why here: a token is recomputed from the order's id, so none is stored and a retry gets the same one.
Must not: be compared other than in constant time, or be logged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

TOKEN_KEY_SIZE = 32
_TOKEN_SIZE = 24
_PURPOSE = b"order status"


def access_token(token_key: bytes, order_id: bytes) -> str:
    """32 characters: BLAKE2b keyed with ``token_key`` (32 bytes) over the order id (16 bytes)."""
    keyed = hashlib.blake2b(order_id, key=token_key, digest_size=_TOKEN_SIZE, person=_PURPOSE)
    return base64.urlsafe_b64encode(keyed.digest()).decode("ascii")


def token_is_good(token_key: bytes, order_id: bytes, token: str) -> bool:
    """True when ``token`` is the order's own; the comparison takes the same time for every wrong one."""
    return hmac.compare_digest(access_token(token_key, order_id).encode(), token.encode("utf-8", "replace"))
