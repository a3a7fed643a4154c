"""Keys of a line's message authentication, with their check values.

Why here: every test of a MAC uses one key an algorithm, as the file that an operator has.
Must not: be used for anything but a test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from keys.private.locked import LockedBuffer
from offline_processor.acquirers.iso8583.mac import Algorithm, MacKey

KEYS: Final[dict[Algorithm, str]] = {
    "aes-cmac": "8f1d62c4a75b09e33c7e94d1f0286ab55e17c3d9804f6b2aa1d47c90e63b582f",
    "retail": "7CA110454A1A6E570131D9619DC1376E",
}
"""None that a library has in it: the memory of a process is searched for them."""
CHECKS: Final[dict[Algorithm, str]] = {"aes-cmac": "736638", "retail": "29A9C3"}


def mac_key(algorithm: Algorithm, digits: str = "") -> MacKey:
    """One in locked memory; the caller closes it."""
    key = bytes.fromhex(digits or KEYS[algorithm])
    return MacKey(algorithm, LockedBuffer(len(key)).copy_from(key))


def key_file(folder: Path, algorithm: Algorithm) -> Path:
    """Its file, as the configuration wants it."""
    path = folder / f"{algorithm}.key"
    path.write_text(f"{KEYS[algorithm]}\n", "ascii")
    path.chmod(0o600)
    return path
