"""Making the signed key entries that a key roll carries.

Why here: the keystore signs for order keys and the key ring for batch keys, with the same identity.
Must not: leave out of the signature what the entry says (keys/public/roll.py checks it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keys.private.sign import sign
from keys.public.roll import KeyEntry, Role, entry_message

if TYPE_CHECKING:
    from keys.private.sign import SigningKey


def sign_entry(
    identity: SigningKey,
    *,
    role: Role,
    node: str,
    epoch: int,
    number: int,
    public_key: bytes,
    seal_until: int,
    destroy_at: int,
) -> KeyEntry:
    """A key entry, signed by the offline ``identity``."""
    message = entry_message(
        role=role,
        node=node,
        epoch=epoch,
        number=number,
        public_key=public_key,
        seal_until=seal_until,
        destroy_at=destroy_at,
    )
    return KeyEntry(
        role=role,
        node=node,
        epoch=epoch,
        number=number,
        public_key=public_key.hex(),
        seal_until=seal_until,
        destroy_at=destroy_at,
        signature=sign(identity, message).hex(),
    )
