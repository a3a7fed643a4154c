"""Custody: a sealing key whose private half only M of N custodians can rebuild from their shares (SLIP-39).

Why here: splitting, checking each share as it is given, and rebuilding are one scheme; the quorum's screens are not.
Must not: keep a share or the private key after use, or accept a rebuilt key that is not the keystore's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keys.private.unseal import SealingKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """What everybody may know of a custody: its X25519 key (32 bytes), M, N, and the identifier in every share."""

    public_key: bytes
    threshold: int
    shares: int
    set_id: int


def split(threshold: int, shares: int) -> tuple[Custody, SealingKey, list[str]]:
    """A new custody key and its N shares, each 33 words; any ``threshold`` of them rebuild the key."""
    raise NotImplementedError


class Assembly:
    """Shares as the custodians give them, until there are enough."""

    def __init__(self, custody: Custody | None) -> None:
        raise NotImplementedError

    def add(self, words: str) -> int:
        """Take one share; how many are still missing.

        Raises ``SHARE-FORM``, ``SHARE-CHECKSUM``, ``SHARE-OTHER-SET``, ``SHARE-REPEATED`` or ``SHARE-WRONG``.
        """
        raise NotImplementedError

    def key(self) -> SealingKey:
        """The custody key; ``SHARE-FINGERPRINT`` when it is not ``custody``'s. Close it soon."""
        raise NotImplementedError
