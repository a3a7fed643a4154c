"""What protects the line by configuration: the key of the MAC, and TLS. Profile and configuration must both ask for it.

Why here: a key that is wrong, or that others can read, must be told before anything is sent.
Must not: make an object of a key on its way from the file into locked memory, or go on with half of a protection.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keys.private.locked import LockedBuffer, zero_stack
from keys.public.digest import equal
from offline_processor.acquirers.iso8583.mac import KEY_SIZES, Algorithm, MacKey
from offline_processor.acquirers.iso8583.private_file import open_private
from offline_processor.acquirers.iso8583.tls import Certificate, Tls, pinned
from offline_processor.errors import ProcessorError

if TYPE_CHECKING:
    from offline_processor.acquirers.iso8583.profile import Profile
    from offline_processor.config import AcquirerConfig

_FILE_MOST: Final = 2 * max(max(sizes) for sizes in KEY_SIZES.values()) + 2
_HALVES: Final = {ord(digit): int(digit, 16) for digit in "0123456789abcdefABCDEF"}
_LINE_END: Final = (0x0A, 0x0D)
_PARITY: Final = 0xFE


def mac_of(config: AcquirerConfig, profile: Profile) -> MacKey | None:
    """The key that the profile asks for; None when it asks for none. ``CONFIG-MAC…``."""
    named = config.mac_key is not None, bool(config.mac_key_check)
    if profile.mac_algorithm is None and named == (False, False):
        return None
    if profile.mac_algorithm is None or config.mac_key is None or not config.mac_key_check:
        raise ProcessorError(
            "CONFIG-MAC",
            "the profile's mac, and [acquirer] mac_key and mac_key_check, go together",
            "set mac = true and mac_algorithm in the profile, mac_key to the file of the key and mac_key_check to"
            " the check value that came with it; or none of them",
        )
    key = read_mac_key(config.mac_key, profile.mac_algorithm)
    if not equal(key.check_value(), bytes.fromhex(config.mac_key_check)):
        key.close()
        raise ProcessorError(
            "CONFIG-MAC-CHECK",
            f"the key in {config.mac_key} is not the one whose check value [acquirer] mac_key_check says",
            "compare both, and the profile's mac_algorithm, with the acquirer's letters; nothing was sent",
        )
    return key


def read_mac_key(path: Path, algorithm: Algorithm) -> MacKey:
    """The key of this algorithm from its file: hexadecimal digits, and a newline at most. ``CONFIG-MAC-KEY``."""
    try:
        descriptor = open_private(path, _FILE_MOST)
        try:
            with LockedBuffer(_FILE_MOST) as digits:
                size = os.readv(descriptor, [digits.view])
                key = _key(digits.view[:size], KEY_SIZES[algorithm])
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProcessorError(
            "CONFIG-MAC-KEY",
            f"the key of the line's message authentication cannot be used ({path}): {reason}",
            "write its hexadecimal digits and one newline into a file of your own, chmod 600; nothing was sent",
        ) from None
    if algorithm == "retail" and _halves_are_one(key.view):
        key.close()
        raise ProcessorError(
            "CONFIG-MAC-KEY",
            f"the key of the line's message authentication cannot be used ({path}): its two halves are the same",
            "ask the acquirer for a double-length key: this one protects no better than single DES",
        )
    made = MacKey(algorithm, key)
    zero_stack()
    return made


def _key(digits: memoryview, sizes: tuple[int, ...]) -> LockedBuffer:
    """The bytes that these digits are; ``ValueError`` without any of them."""
    end = len(digits)
    while end and digits[end - 1] in _LINE_END:
        end -= 1
    if end not in [size * 2 for size in sizes]:
        many = " or ".join(str(size * 2) for size in sizes)
        raise ValueError(f"a key of this algorithm has {many} hexadecimal digits")
    key = LockedBuffer(end // 2)
    for place in range(end // 2):
        # Small integers are shared by the whole interpreter: to make one leaves nothing behind.
        high, low = _HALVES.get(digits[2 * place], -1), _HALVES.get(digits[2 * place + 1], -1)
        if high < 0 or low < 0:
            key.close()
            raise ValueError("there is something in it that is no hexadecimal digit")
        key.view[place] = high << 4 | low
    return key


def _halves_are_one(key: memoryview) -> bool:
    """True when the halves differ in nothing but DES's parity bits."""
    half, differs = len(key) // 2, 0
    for place in range(half):
        differs |= (key[place] ^ key[half + place]) & _PARITY
    return not differs


def tls_of(config: AcquirerConfig, profile: Profile) -> Tls | None:
    """What the profile asks for and the configuration pins; never the one without the other. ``CONFIG-TLS``."""
    ours = config.tls_certificate, config.tls_key
    if not profile.tls and config.tls_authority is None and not config.tls_name and ours == (None, None):
        return None
    if not profile.tls or config.tls_authority is None or not config.tls_name:
        raise ProcessorError(
            "CONFIG-TLS",
            "the profile's tls, and [acquirer] tls_authority and tls_name, go together",
            "set tls = true in the profile, tls_authority to the authority's PEM file and tls_name to the name in"
            " the acquirer's certificate; or none of them, and no tls_certificate or tls_key",
        )
    return pinned(config.tls_authority, config.tls_name, certificate_of(*ours))


def certificate_of(certificate: Path | None, key: Path | None) -> Certificate | None:
    """Both or neither; ``CONFIG-TLS`` for one alone."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ProcessorError(
            "CONFIG-TLS",
            "a certificate of ours and its key go together, and one of them is not named",
            "name both tls_certificate and tls_key, or neither",
        )
    return Certificate(certificate=certificate, key=key)
