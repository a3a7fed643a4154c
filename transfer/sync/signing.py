"""The node's own identity: made once, opened under its passphrase, used to sign bundle manifests.

Why here: the one place of the transfer room that may touch a private key (DESIGN.md, import rule 2).
Must not: be imported by intake, or sign anything but a bundle's manifest.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from keys.durable import create_durable, erase, fsync_directory, make_directory, write_durable
from keys.keyfile import read_header, read_signing_key, write_signing_key
from keys.private.locked import LockedBuffer, harden_process
from keys.private.passphrase import read_passphrase
from keys.private.sign import SigningKey, generate_signing_key, sign_file
from keys.private.swap import accept_unencrypted_swap
from keys.public.fingerprint import fingerprint
from keys.public.minisign import MinisignPublicKey
from transfer.errors import TransferError
from transfer.sync.own import FORMER_IDENTITIES_NAME, NEXT_IDENTITY_NAME, former_identities
from transfer.sync.trust import NODE_IDENTITY_NAME, node_identity
from transfer.wire.manifest import BUNDLE_COMMENT

KEY_NAME = "identity.key"
NEXT_KEY_NAME = "identity.next.key"
SPENT_KEY_NAME = "identity.spent.key"
_PUBLIC_MODE = 0o644
_RESTORE = "restore both from one copy"

__all__ = [
    "Signer",
    "accept_unencrypted_swap",
    "activate_identity",
    "harden_process",
    "init_node",
    "next_identity",
]


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
    return _make(key_path, public_path, passphrase_file=passphrase_file, descriptor=descriptor)


def next_identity(state: Path, *, passphrase_file: Path | None, descriptor: int | None) -> MinisignPublicKey:
    """Make the identity that follows the present one, once; repeating shows the same. The present one goes on signing.

    ``NODE-MISSING`` when there is no present one.
    """
    node_identity(state)
    key_path, public_path = state / NEXT_KEY_NAME, state / NEXT_IDENTITY_NAME
    if (state / SPENT_KEY_NAME).exists():
        raise _interrupted(state)
    if not (key_path.exists() and public_path.exists()):
        if public_path.exists():
            raise _interrupted(state)
        _make(key_path, public_path, passphrase_file=passphrase_file, descriptor=descriptor)
    return MinisignPublicKey.decode(public_path.read_text("ascii"))


def activate_identity(
    state: Path, *, passphrase_file: Path | None, descriptor: int | None
) -> MinisignPublicKey:
    """From now on sign with the next identity, and destroy the private key of the present one.

    ``ROTATE-NONE`` when there is no next one. A crash at any step is repaired by repeating. Bundles that are signed
    already keep their bytes.

    The order: old key linked as ``identity.spent.key``; next key over it; next public key over the old one; the spent
    key overwritten and removed.
    """
    key, public = state / KEY_NAME, state / NODE_IDENTITY_NAME
    next_key, next_public, spent = state / NEXT_KEY_NAME, state / NEXT_IDENTITY_NAME, state / SPENT_KEY_NAME
    if not next_public.exists() and not spent.exists():
        raise TransferError(
            "ROTATE-NONE",
            f"{state} holds no next identity",
            "run: spool-sync rotate-identity; have its fingerprint entered on the offline side; then activate it",
        )
    if next_key.exists():
        with _passphrase(passphrase_file, descriptor, new=False) as passphrase:
            opened = read_signing_key(
                next_key, passphrase
            )  # what cannot be opened must not become the identity
        with contextlib.closing(opened) as found:
            if not next_public.exists() or _public_of(next_public) != found.public_key:
                raise _interrupted(state)
        with contextlib.suppress(FileExistsError):
            os.link(key, spent)
            fsync_directory(state)
        os.rename(next_key, key)
        fsync_directory(state)
    if next_public.exists():
        if bytes.fromhex(read_header(key).public_key) != _public_of(next_public):
            raise TransferError("NODE-IDENTITY", f"{key} and {next_public} do not belong together", _RESTORE)
        _remember_former(state, node_identity(state))
        os.rename(next_public, public)
        fsync_directory(state)
    if spent.exists():
        if spent.samefile(key):
            raise _interrupted(state)  # never wipe the key that signs
        erase(spent)
        fsync_directory(state)
    return node_identity(state)


def _remember_former(state: Path, identity: MinisignPublicKey) -> None:
    """Bundles that it signed are this node's for ever."""
    path = state / FORMER_IDENTITIES_NAME
    known = former_identities(state)
    if identity not in known:
        texts = [former.public_key.hex() for former in (*known, identity)]
        write_durable(path, ("\n".join(texts) + "\n").encode("ascii"), _PUBLIC_MODE)


def _public_of(path: Path) -> bytes:
    return MinisignPublicKey.decode(path.read_text("ascii")).public_key


def _interrupted(state: Path) -> TransferError:
    return TransferError(
        "ROTATE-UNFINISHED",
        f"a rotation of the node identity in {state} was interrupted",
        "run: spool-sync rotate-identity --activate",
    )


def _make(key_path: Path, public_path: Path, *, passphrase_file: Path | None, descriptor: int | None) -> str:
    begun = key_path.exists()
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
                if (self._state / SPENT_KEY_NAME).exists():
                    raise _interrupted(self._state)
                raise TransferError(
                    "NODE-IDENTITY",
                    f"{KEY_NAME} and {NODE_IDENTITY_NAME} in {self._state} do not belong together",
                    f"{_RESTORE}; nothing was signed",
                )
        return sign_file(self._key, manifest, BUNDLE_COMMENT)


def _passphrase(file: Path | None, descriptor: int | None, *, new: bool) -> LockedBuffer:
    prompt = "New passphrase of the node identity" if new else "Passphrase of the node identity"
    return read_passphrase(file=file, descriptor=descriptor, prompt=prompt, new=new)
