"""Canonical JSON: one value, one byte string.

Why here: what is signed must have exactly one encoding, and all signed documents of ours are JSON.
Must not: accept bytes that it would not itself have written.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from keys.errors import KeysError

T = TypeVar("T")

_encoder = msgspec.json.Encoder(order="sorted")


def encode(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, no white space, integers only (FORMAT.md, section 3)."""
    return _encoder.encode(value)


def decode(raw: bytes, into: type[T], *, limit: int, what: str) -> T:
    """Parse ``raw`` strictly; refuse (``FORMAT-JSON``) more than ``limit`` bytes or any other spelling of the value."""
    if len(raw) > limit:
        raise KeysError("FORMAT-JSON", f"the {what} has {len(raw)} bytes; at most {limit} are allowed")
    try:
        value = msgspec.json.decode(raw, type=into, strict=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise KeysError("FORMAT-JSON", f"the {what} does not have the form that FORMAT.md gives") from error
    if not raw.isascii() or encode(value) != raw:
        raise KeysError("FORMAT-JSON", f"the {what} is not in canonical form")
    return value
