"""Domain-separated BLAKE2b, the only hash used for ids, bindings and chains.

Why here: every room hashes, and none may hash without naming what for (FORMAT.md, section 2).
Must not: be called with a domain that FORMAT.md does not list.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import cache

DIGEST_SIZE = 32
_PREFIX = "sealed-orders/v1/"


@cache
def _begun(domain: str, size: int) -> hashlib.blake2b:
    name = (_PREFIX + domain).encode("ascii")
    return hashlib.blake2b(bytes([len(name)]) + name, digest_size=size)


def digest(domain: str, *parts: bytes | memoryview, size: int = DIGEST_SIZE) -> bytes:
    """BLAKE2b (RFC 7693) of ``size`` bytes over u8 length of the domain, the domain, and the parts joined."""
    state = _begun(domain, size).copy()
    for part in parts:
        state.update(part)
    return state.digest()


def equal(left: bytes | memoryview, right: bytes | memoryview) -> bool:
    """Compare two digests in constant time."""
    return hmac.compare_digest(left, right)
