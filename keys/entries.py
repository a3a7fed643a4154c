"""Making what the offline identity signs about keys: entries of a roll, revocations, a handover.

Why here: the keystore signs for order keys and the key ring for batch keys, with the same identity.
Must not: leave out of the signature what the entry says (keys/public/roll.py checks it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from keys.private.sign import sign
from keys.public.announcement import Handover, Revocation, handover_message, revocation_message
from keys.public.roll import KeyEntry, Role, entry_message
from keys.public.verify import signature_is_good

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


def signed_by(identity: SigningKey, entry: KeyEntry) -> KeyEntry:
    """``entry`` with the signature of ``identity``; the same entry when that is what it has.

    A node believes one identity at a time, so during a handover the same key is vouched for by either.
    """
    public_key = bytes.fromhex(entry.public_key)
    message = entry_message(
        role=entry.role,
        node=entry.node,
        epoch=entry.epoch,
        number=entry.number,
        public_key=public_key,
        seal_until=entry.seal_until,
        destroy_at=entry.destroy_at,
    )
    if signature_is_good(identity.public_key, message, bytes.fromhex(entry.signature)):
        return entry
    return replace(entry, signature=sign(identity, message).hex())


def sign_revocation(
    identity: SigningKey, *, role: Role, node: str | None, epoch: int, key_id: bytes, revoked_at: int
) -> Revocation:
    """The announcement that a sealing key must not be used again."""
    message = revocation_message(role=role, epoch=epoch, key=key_id, revoked_at=revoked_at)
    return Revocation(
        role=role,
        node=node,
        epoch=epoch,
        key=key_id.hex(),
        revoked_at=revoked_at,
        signature=sign(identity, message).hex(),
    )


def sign_handover(old: SigningKey, new: SigningKey, *, epoch: int, start: int) -> Handover:
    """The announcement, by both, that ``new`` signs from ``start`` on."""
    message = handover_message(
        epoch=epoch, start=start, old_identity=old.public_key, new_identity=new.public_key
    )
    return Handover(
        epoch=epoch,
        start=start,
        old_identity=old.public_key.hex(),
        new_identity=new.public_key.hex(),
        old_signature=sign(old, message).hex(),
        new_signature=sign(new, message).hex(),
    )
