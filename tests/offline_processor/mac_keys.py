"""Keys of a line's message authentication, with check values that others have published or computed.

Why here: every test of a MAC uses one key an algorithm, as the file that an operator has.
Must not: be used for anything but a test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from keys.private.locked import LockedBuffer
from offline_processor.acquirers.iso8583.mac import Algorithm, MacKey

KEYS: Final[dict[Algorithm, str]] = {
    "aes-cmac": "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    "retail": "0123456789ABCDEFFEDCBA9876543210",
}
CHECKS: Final[dict[Algorithm, str]] = {"aes-cmac": "1A0B2D", "retail": "08D7B4"}


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
