"""The chain of ledger entries: each carries the digest of itself and the one before.

Why here: the offline room writes the chain, and the key room checks it for its evidence; an auditor's program can too.
Must not: cover anything that may lawfully be erased; entries hold ids, amounts, states and salted digests only.
"""

from __future__ import annotations

import struct

from keys.public.digest import digest

GENESIS = bytes(32)
_NUMBERS = struct.Struct(">QQ")


def link(previous: bytes, *, number: int, at: int, kind: str, subject: str, facts: str) -> bytes:
    """digest("ledger-entry", previous (32) || u64 number || u64 at || kind || 0 || subject || 0 || facts), 32 bytes."""
    text = f"{kind}\0{subject}\0{facts}".encode()
    return digest("ledger-entry", previous + _NUMBERS.pack(number, at) + text)
