"""One file form for several secrets: an index that anyone may read, and the secrets that it names.

Why here: the keystore, the key ring and the ring secret are all stored so; the index is bound to the secrets.
Must not: let the index be believed before the box has been opened and has confirmed its digest.

Form: canonical JSON of the index, a newline, then ``wrap(key, digest("strongbox", index) || secrets)``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, TypeVar

from keys.errors import KeysError
from keys.private.locked import LockedBuffer
from keys.private.secretbox import WRAP_OVERHEAD, UnwrapError, unwrap_into, wrap
from keys.public import canonical
from keys.public.digest import DIGEST_SIZE, digest, equal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")

SIZE_LIMIT: Final = 256 * 1024 * 1024
_DOMAIN: Final = "strongbox"


def lay_out(key: LockedBuffer, index: object, secrets: Sequence[memoryview]) -> bytes:
    """The file for ``index`` (a msgspec Struct) and its ``secrets``, wrapped under ``key``."""
    raw = canonical.encode(index)
    with LockedBuffer(DIGEST_SIZE + sum(secret.nbytes for secret in secrets)) as plaintext:
        plaintext.view[:DIGEST_SIZE] = digest(_DOMAIN, raw)
        place = DIGEST_SIZE
        for secret in secrets:
            plaintext.view[place : place + secret.nbytes] = secret
            place += secret.nbytes
        file = raw + b"\n" + wrap(key, plaintext.view)
    if len(file) > SIZE_LIMIT:
        # Better to fail before anything is written than to write what could not be read again.
        raise KeysError(
            "KEYSTORE-FULL", f"the keystore has grown beyond {SIZE_LIMIT} bytes; nothing was changed"
        )
    return file


@contextlib.contextmanager
def opened(key: LockedBuffer, file: bytes, into: type[T], what: str) -> Iterator[tuple[T, memoryview]]:
    """The index and a view of all secrets, joined, which is wiped at the end of the block.

    Raises ``UnwrapError`` when ``key`` is not the file's or the file is not whole, ``KEYSTORE-DAMAGED`` or
    ``FORMAT-JSON`` when its index is not the one that was stored.
    """
    if len(file) > SIZE_LIMIT:
        raise KeysError("KEYSTORE-DAMAGED", f"the {what} is too large")
    raw, newline, wrapped = file.partition(b"\n")
    size = len(wrapped) - WRAP_OVERHEAD
    if not newline or size < DIGEST_SIZE:
        raise UnwrapError
    with LockedBuffer(size) as plaintext:
        unwrap_into(key, wrapped, plaintext.view)
        if not equal(plaintext.view[:DIGEST_SIZE], digest(_DOMAIN, raw)):
            raise KeysError("KEYSTORE-DAMAGED", f"the index of the {what} does not belong to its secrets")
        index = canonical.decode(raw, into, limit=SIZE_LIMIT, what=what)
        yield index, plaintext.view[DIGEST_SIZE:]
