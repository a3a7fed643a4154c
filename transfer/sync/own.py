"""A node's own public keys: the one that signs, those that signed before, and the one that will.

Why here: push must know its own bundles by any of them, and status shows what waits; neither may touch a private key.
Must not: write, or read anything private.
"""

from __future__ import annotations

from pathlib import Path

from keys.errors import RuleError
from keys.public.minisign import MinisignPublicKey
from transfer.errors import TransferError

NEXT_IDENTITY_NAME = "identity.next.pub"
FORMER_IDENTITIES_NAME = "identity.former"
_KEY_SIZE = 32


def former_identities(state: Path) -> tuple[MinisignPublicKey, ...]:
    """The public keys that signed bundles of this node before the present one, the oldest first."""
    try:
        lines = (state / FORMER_IDENTITIES_NAME).read_text("ascii").splitlines()
        keys = [bytes.fromhex(line) for line in lines]
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise _damaged(state) from error
    if any(len(key) != _KEY_SIZE for key in keys):
        raise _damaged(state)
    return tuple(MinisignPublicKey(public_key=key) for key in keys)


def next_public_key(state: Path) -> MinisignPublicKey | None:
    """The identity that waits to be activated, or None."""
    try:
        return MinisignPublicKey.decode((state / NEXT_IDENTITY_NAME).read_text("ascii"))
    except (OSError, UnicodeDecodeError, RuleError):
        return None


def _damaged(state: Path) -> TransferError:
    path = state / FORMER_IDENTITIES_NAME
    return TransferError(
        "NODE-IDENTITY", f"{path} cannot be read", "restore it from a copy of the state directory"
    )
