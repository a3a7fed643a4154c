"""Secrets that follow from another secret, computed between locked buffers.

Why here: one master key gives several values for several places, and none of them may give back the master.
Must not: be used for what goes into a document; keys.public.digest is for that.
"""

from __future__ import annotations

from typing import Final

from keys.private import sodium
from keys.private.locked import LockedBuffer

DERIVED_SIZE: Final = 32
_PREFIX: Final = b"sealed-orders/v1/"


def derive(key: LockedBuffer, domain: str, material: memoryview | bytes = b"") -> LockedBuffer:
    """32 bytes of keyed BLAKE2b under ``key`` over u8 length of the domain, the domain, and ``material``."""
    name = _PREFIX + domain.encode("ascii")
    size = 1 + len(name) + len(material)
    derived = LockedBuffer(DERIVED_SIZE)
    with LockedBuffer(size) as text:
        text.view[0] = len(name)
        text.view[1 : 1 + len(name)] = name
        text.view[1 + len(name) :] = material
        done = sodium.generichash(derived.address, DERIVED_SIZE, text.address, size, key.address, key.size)
    if done != 0:
        raise AssertionError("libsodium failed to derive a key")
    return derived
