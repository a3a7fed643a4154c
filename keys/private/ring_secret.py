"""The ring secret: what wraps the key ring and is replaced at every destruction, wherever it is kept.

Why here: destroying a key means that nothing is left that unwraps it; the ring must not care where that one thing lies.
Must not: let what is stored alone open the ring, nor the master key alone: the wrapping key comes of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, assert_never

from keys.private.derive import DERIVED_SIZE, derive
from keys.private.ring_secret_file import FileRingSecret
from keys.private.ring_secret_tpm import TpmRingSecret
from keys.ring_index import RingBackend

if TYPE_CHECKING:
    from pathlib import Path

    from keys.errors import KeysError
    from keys.private.locked import LockedBuffer

SECRET_SIZE: Final = DERIVED_SIZE


class RingSecret(Protocol):
    """One place for the 32-byte secret of one key ring. After a crash at any step ``read`` gives the live one."""

    def create(self, secret: LockedBuffer) -> None:
        """Store the first secret; the caller makes the directory durable."""

    def read(self) -> LockedBuffer:
        """The live secret."""

    def replace(self, secret: LockedBuffer) -> None:
        """Put ``secret`` in place of the live one: all names in the directory durable first, then one step."""

    def settle(self) -> None:
        """Finish or undo what a crash left of a replacement."""

    def foreign(self, ring: Path) -> KeysError:
        """The refusal of a ring that the live secret does not open."""


def ring_secret(directory: Path, master: LockedBuffer, backend: RingBackend) -> RingSecret:
    """The place that ``backend`` names, for the key ring in ``directory``."""
    match backend:
        case RingBackend.FILE:
            return FileRingSecret(directory, master)
        case RingBackend.TPM:
            return TpmRingSecret(directory, master)
    assert_never(backend)


def wrapping_key(master: LockedBuffer, secret: LockedBuffer) -> LockedBuffer:
    """What the ring is wrapped under: neither the keystore's passphrase nor what is stored gives it alone."""
    return derive(master, "ring-secret", secret.view)
