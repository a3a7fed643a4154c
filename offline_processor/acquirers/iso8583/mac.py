"""The message authentication code of the line: AES-CMAC, or the retail MAC that most hosts still ask for.

Why here: what is authenticated holds a card, so it is read where it lies, in locked memory, and nowhere else.
Must not: make bytes of a message or of the key, or compare a code in a way whose time tells how much of it was right.

AES-CMAC: NIST SP 800-38B, which is ISO/IEC 9797-1 algorithm 5. Retail MAC: ANSI X9.19, which is ISO/IEC 9797-1
algorithm 3 with DES, a double-length key and padding method 1 (zeros up to a whole block). OpenSSL has the key in
memory of its own only while it works, and wipes it there.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from keys.private.locked import LockedBuffer
from keys.public.digest import equal
from offline_processor.acquirers.iso8583.codec import LARGEST
from offline_processor.acquirers.iso8583.fields import MAC_SIZE

Algorithm = Literal["aes-cmac", "retail"]
KEY_SIZES: Final[dict[Algorithm, tuple[int, ...]]] = {"aes-cmac": (16, 24, 32), "retail": (16,)}
CHECK_SIZE: Final = 3
_DES_BLOCK: Final = 8
_AES_BLOCK: Final = 16


class MacKey:
    """The line's key and its algorithm; it owns ``key`` (a size of ``KEY_SIZES``) from now on."""

    def __init__(self, algorithm: Algorithm, key: LockedBuffer) -> None:
        self._key: LockedBuffer | None = key
        self._retail = _Retail(key) if algorithm == "retail" else None

    def write(self, covered: memoryview, place: memoryview) -> None:
        """Put the code of what is ``covered`` into its ``place`` of eight bytes, or sixteen hexadecimal digits."""
        code = self._code(covered)
        place[:] = code if len(place) == MAC_SIZE else code.hex().upper().encode("ascii")

    def holds(self, covered: memoryview, place: memoryview) -> bool:
        """True when ``place`` has the code of what is ``covered``; letters of either case."""
        code = self._code(covered)
        if len(place) == MAC_SIZE:
            return equal(code, place)
        return equal(code.hex().encode("ascii"), bytes(place).lower())

    def check_value(self) -> bytes:
        """Three bytes by which people compare keys. It tells nothing else of this one.

        DES: of eight zero bytes encrypted. AES: of the CMAC of sixteen zero bytes (ANSI X9.24-1), as a block of zeros
        encrypted would be a part of what CMAC derives from the key.
        """
        key = self._alive()
        if self._retail is not None:
            return self._retail.check_value()
        return _cmac(key, memoryview(bytes(_AES_BLOCK)))[:CHECK_SIZE]

    def close(self) -> None:
        """Wipe the key; nothing can be done with it any more."""
        if self._key is not None:
            self._key.close()
            self._key = None
        if self._retail is not None:
            self._retail.close()

    def _alive(self) -> LockedBuffer:
        if self._key is None:
            raise AssertionError("a closed key must not work on as a key of zeros")
        return self._key

    def _code(self, covered: memoryview) -> bytes:
        key = self._alive()
        return _cmac(key, covered)[:MAC_SIZE] if self._retail is None else self._retail.code(covered)

    def __repr__(self) -> str:
        return "<MacKey>"

    def __reduce__(self) -> str:
        raise TypeError("a key is not copied")


def _cmac(key: LockedBuffer, covered: memoryview) -> bytes:
    data: Any = covered
    working = CMAC(AES(key.view))
    working.update(data)
    return working.finalize()


class _Retail:
    """DES-CBC with the first half of the key, and EDE with both over the last block alone."""

    def __init__(self, key: LockedBuffer) -> None:
        first, second = key.view[:_DES_BLOCK], key.view[_DES_BLOCK:]
        self._keys = LockedBuffer(6 * _DES_BLOCK)
        for place, part in enumerate((first, first, first, first, second, first)):
            self._keys.view[place * _DES_BLOCK : (place + 1) * _DES_BLOCK] = part
        # What is encrypted on the way to the last block is as long as the message, and the cipher wants a block more.
        self._chain = LockedBuffer(LARGEST + 2 * _DES_BLOCK)
        self._last = LockedBuffer(3 * _DES_BLOCK)

    def code(self, covered: memoryview) -> bytes:
        before = max(0, len(covered) - 1) // _DES_BLOCK * _DES_BLOCK
        chain, last = self._chain, self._last
        last.wipe()
        last.view[_DES_BLOCK : _DES_BLOCK + len(covered) - before] = covered[before:]
        if before:
            self._encrypt(0, last.view[:_DES_BLOCK], covered[:before], chain.view)
            last.view[:_DES_BLOCK] = chain.view[before - _DES_BLOCK : before]
        self._encrypt(1, last.view[:_DES_BLOCK], last.view[_DES_BLOCK : 2 * _DES_BLOCK], chain.view)
        code = bytes(chain.view[:_DES_BLOCK])
        chain.wipe()
        last.wipe()
        return code

    def check_value(self) -> bytes:
        self._last.wipe()
        self._encrypt(1, self._last.view[:_DES_BLOCK], self._last.view[:_DES_BLOCK], self._chain.view)
        return bytes(self._chain.view[:CHECK_SIZE])

    def close(self) -> None:
        for one in (self._keys, self._chain, self._last):
            one.close()

    def _encrypt(self, which: int, start: memoryview, data: memoryview, into: memoryview) -> None:
        key: Any = self._keys.view[which * 3 * _DES_BLOCK : (which + 1) * 3 * _DES_BLOCK]
        Cipher(TripleDES(key), modes.CBC(start)).encryptor().update_into(data, into)
