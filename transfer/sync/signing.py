"""The node's own identity: made once, opened under its passphrase, used to sign bundle manifests.

Why here: the one place of the transfer room that may touch a private key (DESIGN.md, import rule 2).
Must not: be imported by intake, or sign anything but a bundle's manifest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from keys.durable import create_durable, make_directory
from keys.keyfile import read_signing_key, write_signing_key
from keys.private.locked import LockedBuffer, harden_process
from keys.private.passphrase import read_passphrase
from keys.private.sign import SigningKey, generate_signing_key, sign_file
from keys.public.fingerprint import fingerprint
from transfer.errors import TransferError
from transfer.sync.trust import NODE_IDENTITY_NAME, node_identity
from transfer.wire.manifest import BUNDLE_COMMENT

KEY_NAME = "identity.key"
_PUBLIC_MODE = 0o644

__all__ = ["Signer", "harden_process", "init_node"]


def init_node(state: Path, *, passphrase_file: Path | None, descriptor: int | None) -> str:
    """Make the node identity in ``state`` and return its fingerprint. ``NODE-EXISTS`` when there is one.

    Repeating it after a crash completes it. The passphrase comes from the descriptor, the file or the terminal.
    """
    key_path, public_path = state / KEY_NAME, state / NODE_IDENTITY_NAME
    begun = key_path.exists()
    if begun and public_path.exists():
        raise TransferError(
            "NODE-EXISTS",
            f"{state} holds a node identity already, {fingerprint(node_identity(state).public_key)}",
            "use it, or give the new node a new node id and a new state directory",
        )
    make_directory(state)
    with _passphrase(passphrase_file, descriptor, new=not begun) as passphrase:
        if not begun:
            with contextlib.closing(generate_signing_key()) as key:
                write_signing_key(key_path, key, passphrase)
        # Read back under the passphrase, so that what is enrolled is what will sign.
        with contextlib.closing(read_signing_key(key_path, passphrase)) as key:
            create_durable(public_path, key.minisign.encode().encode("ascii"), _PUBLIC_MODE)
            return fingerprint(key.public_key)


class Signer:
    """Signs bundle manifests. The passphrase is asked for when the first one is due, and not before."""

    def __init__(self, state: Path, *, passphrase_file: Path | None, descriptor: int | None) -> None:
        self._state = state
        self._sources = (passphrase_file, descriptor)
        self._key: SigningKey | None = None

    @contextlib.contextmanager
    def session(self) -> Iterator[Callable[[bytes], str]]:
        """``sign(manifest)`` gives the text of its signature file; the key is wiped at the end."""
        try:
            yield self._sign
        finally:
            if self._key is not None:
                self._key.close()
                self._key = None

    def _sign(self, manifest: bytes) -> str:
        if self._key is None:
            with _passphrase(*self._sources, new=False) as passphrase:
                self._key = read_signing_key(self._state / KEY_NAME, passphrase)
            if self._key.public_key != node_identity(self._state).public_key:
                raise TransferError(
                    "NODE-IDENTITY",
                    f"{KEY_NAME} and {NODE_IDENTITY_NAME} in {self._state} do not belong together",
                    "restore both from one copy; nothing was signed",
                )
        return sign_file(self._key, manifest, BUNDLE_COMMENT)


def _passphrase(file: Path | None, descriptor: int | None, *, new: bool) -> LockedBuffer:
    prompt = "New passphrase of the node identity" if new else "Passphrase of the node identity"
    return read_passphrase(file=file, descriptor=descriptor, prompt=prompt, new=new)
