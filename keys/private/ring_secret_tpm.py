"""The ring secret in the NV memory of a TPM 2.0, in an index of its own.

Why here: a chip forgets what it held before; no older copy of the disk brings back what unwrapped a destroyed key.
Must not: keep the secret on the disk too, or leave an index behind when a keystore is not finished.

``ring.tpm`` beside the ring holds the index's handle, under the master key; the index opens with a value that is
derived from the master key. What the chip holds is combined with the master key before it opens anything, so the
chip alone opens nothing, nor does the disk. One destruction is one write: makers state from about 100,000 writes
for an index, which at 50 destructions a day last 5 years and more; other changes of the ring write nothing. A chip
on a bus of its own shows its traffic to whoever solders a probe to a running machine: the master key is not in it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from keys.durable import fsync_directory, write_new_file
from keys.errors import KeysError
from keys.private import strongbox, tpm
from keys.private.derive import derive
from keys.private.locked import LockedBuffer
from keys.private.secretbox import KEY_SIZE
from keys.public import canonical

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "ring.tpm"
_FIRST_HANDLE: Final = (
    0x01800000  # the range that the owner of a machine gives out (TCG's registry of handles)
)
_LAST_HANDLE: Final = 0x01BFFFFF
_TRIES: Final = 8
_SIZE_LIMIT: Final = 4096


class _Index(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="ring-tpm"
):
    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    handle: Annotated[int, msgspec.Meta(ge=_FIRST_HANDLE, le=_LAST_HANDLE)]


class TpmRingSecret:
    """The secret of the key ring in ``directory``, in the TPM of this machine."""

    __slots__ = ("_directory", "_master", "_place")

    def __init__(self, directory: Path, master: LockedBuffer) -> None:
        self._directory = directory
        self._master = master
        self._place = directory / NAME

    def create(self, secret: LockedBuffer) -> None:
        """Make an index and store the first secret. Its handle is durable before it exists (``discard``)."""
        for _ in range(_TRIES):
            taken = tpm.indices()
            handle = _FIRST_HANDLE + secrets.randbelow(_LAST_HANDLE - _FIRST_HANDLE + 1)
            if handle in taken:
                continue
            self._place.unlink(missing_ok=True)
            write_new_file(self._place, [strongbox.lay_out(self._master, _Index(handle=handle), [])])
            fsync_directory(self._directory)
            try:
                with self._auth() as auth:
                    tpm.define(handle, KEY_SIZE, auth)
            except tpm.IndexTakenError:
                continue
            self._write(handle, secret)
            return
        raise tpm.IndexTakenError(_FIRST_HANDLE)

    def read(self) -> LockedBuffer:
        """The live secret; a ``RING-TPM-...`` refusal says what stands between us and it."""
        secret = LockedBuffer(KEY_SIZE)
        with self._auth() as auth:
            tpm.read(self._handle(), auth, secret)
        return secret

    def replace(self, secret: LockedBuffer) -> None:
        """Put ``secret`` in place of the live one. Once the chip has it, nothing opens the ring of before."""
        handle = self._handle()
        fsync_directory(self._directory)  # the name of the ring's new file
        self._write(handle, secret)

    def settle(self) -> None:
        """Nothing: the chip holds one secret or the other."""

    def foreign(self, ring: Path) -> KeysError:
        """The refusal of a ring that the chip's secret does not open."""
        return KeysError(
            "RING-TPM-OLD",
            f"the key ring {ring} is not the one whose secret this machine's TPM holds: "
            "it is an older copy, or damaged",
            "put the newest state of the keystore back; from this copy no batch or hold key can be opened, "
            "the long-lived keys are recovered with the custodians' shares",
        )

    def _write(self, handle: int, secret: LockedBuffer) -> None:
        with self._auth() as auth, LockedBuffer(KEY_SIZE) as stored:
            tpm.write(handle, auth, secret)
            # A destruction is believed when the chip says so, not when a program has ended well.
            tpm.read(handle, auth, stored)
            if stored.view != secret.view:
                remedy = "repeat the command; if it stays so, the chip is worn out or broken"
                raise KeysError("RING-TPM-FAILED", "the TPM holds another value than was written", remedy)

    def _auth(self) -> LockedBuffer:
        return derive(self._master, "ring-tpm-auth")

    def _handle(self) -> int:
        try:
            file = self._place.read_bytes()
            with strongbox.opened(self._master, file[:_SIZE_LIMIT], _Index, "ring's TPM index") as (index, _):
                return index.handle
        except (OSError, KeysError) as error:
            remedy = "restore the file from a copy of the keystore: it holds no secret"
            raise KeysError("KEYSTORE-DAMAGED", f"{self._place} is missing or damaged", remedy) from error


def discard(directory: Path) -> None:
    """Give back the index of a keystore that was never finished; its master key is gone, so it opens for nobody.

    The handle was seen to be free and written down before the index was made, so a handle that the TPM has now
    is ours. Does nothing where no index was made.
    """
    place = directory / NAME
    if not place.exists():
        return
    raw = place.read_bytes()[:_SIZE_LIMIT].partition(b"\n")[0]
    try:
        index = canonical.decode(raw, _Index, limit=_SIZE_LIMIT, what="ring's TPM index")
    except KeysError:
        place.unlink()  # torn while it was written, so before the index was made
        return
    if index.handle in tpm.indices():
        tpm.undefine(index.handle)
    place.unlink()
