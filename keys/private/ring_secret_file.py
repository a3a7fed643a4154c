"""The ring secret in a file, wrapped under the keystore's master key.

Why here: every machine has files; where there is a TPM, keys/private/ring_secret_tpm.py does better.
Must not: claim more than files can do. The old bytes are overwritten in place and fsynced, yet a flash medium
or an old disk image may still have them: with this backend erasure is not assured by hardware.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from keys.durable import replace_erasing, settle_erasing, write_new_file
from keys.errors import KeysError
from keys.private import strongbox
from keys.private.locked import LockedBuffer
from keys.private.secretbox import KEY_SIZE, UnwrapError

if TYPE_CHECKING:
    from pathlib import Path

_SIZE_LIMIT: Final = 4096
_REMEDY: Final = "batch and hold keys are lost with it: restore the keystore, or enrol the nodes again"


class _Index(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="ring-secret"
):
    format: int = 1


class FileRingSecret:
    """The secret of the key ring in ``directory``: ``ring.secret``."""

    __slots__ = ("_live", "_master")

    def __init__(self, directory: Path, master: LockedBuffer) -> None:
        self._master = master
        self._live = directory / "ring.secret"

    def create(self, secret: LockedBuffer) -> None:
        """Store the first secret; the caller makes the directory durable."""
        write_new_file(self._live, [self._wrapped(secret)])

    def read(self) -> LockedBuffer:
        """The live secret; ``KEYSTORE-DAMAGED`` when it is missing or does not open."""
        try:
            file = self._live.read_bytes()
            with strongbox.opened(self._master, file[:_SIZE_LIMIT], _Index, "ring secret") as (_, secret):
                return LockedBuffer(KEY_SIZE).copy_from(secret)
        except (OSError, UnwrapError, ValueError) as error:
            message = f"the ring secret {self._live} is damaged"
            raise KeysError("KEYSTORE-DAMAGED", message, _REMEDY) from error

    def replace(self, secret: LockedBuffer) -> None:
        """Put ``secret`` in place of the live one, and leave nothing of the old one that software can see."""
        replace_erasing(self._live, self._wrapped(secret))

    def settle(self) -> None:
        """After a crash: drop a secret that never became live, and erase one that is no longer live."""
        settle_erasing(self._live)

    def foreign(self, ring: Path) -> KeysError:
        """The refusal of a ring that this secret does not open."""
        return KeysError("KEYSTORE-DAMAGED", f"the key ring {ring} is damaged", _REMEDY)

    def _wrapped(self, secret: LockedBuffer) -> bytes:
        return strongbox.lay_out(self._master, _Index(), [secret.view])
