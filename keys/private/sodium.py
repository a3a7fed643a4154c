"""The one door to libsodium's C functions, as PyNaCl ships them.

Why here: only C functions can work between locked buffers without making a Python object of a secret.
Must not: be called with anything but the sizes that libsodium asks for; C does not check them.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from nacl import _sodium

# cffi: checks types, takes bytes without a copy and a memoryview through ``ffi.from_buffer``.
ffi: Final[Any] = _sodium.ffi
lib: Final[Any] = _sodium.lib
from_buffer: Final[Any] = ffi.from_buffer

# What PyNaCl's cffi layer does not declare is still in its shared object; ctypes finds the same loaded copy.
_shared_object = ctypes.CDLL(_sodium.__file__)


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_shared_object, name)
    function.restype = result
    function.argtypes = arguments
    return function


_ADDRESS = ctypes.c_void_p
_LENGTH = ctypes.c_ulonglong

stackzero: Final[Any] = _function("sodium_stackzero", None, ctypes.c_size_t)
mlock: Final[Any] = _function("sodium_mlock", ctypes.c_int, _ADDRESS, ctypes.c_size_t)
munlock: Final[Any] = _function("sodium_munlock", ctypes.c_int, _ADDRESS, ctypes.c_size_t)
sign_detached: Final[Any] = _function(
    "crypto_sign_detached", ctypes.c_int, _ADDRESS, _ADDRESS, ctypes.c_char_p, _LENGTH, _ADDRESS
)
generichash: Final[Any] = _function(
    "crypto_generichash",
    ctypes.c_int,
    _ADDRESS,
    ctypes.c_size_t,
    _ADDRESS,
    _LENGTH,
    _ADDRESS,
    ctypes.c_size_t,
)
argon2id: Final[Any] = _function(
    "crypto_pwhash",
    ctypes.c_int,
    _ADDRESS,
    _LENGTH,
    _ADDRESS,
    _LENGTH,
    ctypes.c_char_p,
    _LENGTH,
    ctypes.c_size_t,
    ctypes.c_int,
)

_MACHINE_WORD = "uintptr_t"


def address_of(pointer: Any) -> int:
    """The machine address of a cffi pointer, as ctypes wants it."""
    return int(ffi.cast(_MACHINE_WORD, pointer))
